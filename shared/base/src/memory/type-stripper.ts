/** As Node lists what it has loaded of itself. */
const STRIPPER = 'NativeModule internal/deps/amaro/dist/index';

/**
 * Whether Node has taken types out of a source in this process: not all of them were in its compile cache. What it does that
 * with stays in memory.
 */
export function hasStripper(): boolean {
  const { moduleLoadList = [] } = process as { moduleLoadList?: readonly string[] };
  return moduleLoadList.includes(STRIPPER);
}
