# SPDX-License-Identifier: Apache-2.0
@0xc4d1a6f0b2e83a57;

interface Echo {
  echo @0 (value :Data) -> (value :Data);
}
