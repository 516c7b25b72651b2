// SPDX-License-Identifier: Apache-2.0
// The tasks of typed_tasks.h in C++: the functions of module_typed.c, which are C++ too, and one that
// throws.
#include <stdexcept>
#include <string>

#include "tests/system/module_typed.c"

KNIT_IMPLEMENT(throws)
static int throws_impl(struct knit_call *, int64_t what)
{
    if (what == 1)
        throw std::runtime_error("thrown " + std::string(100, 'x'));
    if (what == 2)
        throw 5;
    return 0;
}
