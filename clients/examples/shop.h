/* SPDX-License-Identifier: Apache-2.0 */
/* What a shop's tasks are, for the module that has them (shop.c) and for who calls them
 * (shopping.c). */
#pragma once

#include <knitting/typed.h>

KNIT_TYPED(price, ((str, article), (u16, pieces)), ((f64, total), (bool, is_in_stock)));
KNIT_TYPED(discount, ((f64, total), (u8, percent, optional)), ((f64, rest)));
