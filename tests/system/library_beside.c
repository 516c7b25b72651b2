/* SPDX-License-Identifier: Apache-2.0 */
/* What module_version.c finds by $ORIGIN. */
int knit_test_beside(void);

__attribute__((visibility("default"))) int knit_test_beside(void)
{
    return 100;
}
