import { accessSync, constants } from 'node:fs';

/** Why nothing can be had of `/dev/fuse` here. */
export function whyNoFuse(): string | undefined {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
