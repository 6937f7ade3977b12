import type { HarborObject } from './api.ts';

/** True if anything that is wanted stands otherwise in what was found; what Harbor has beside it does not matter. */
export function differs(found: unknown, wanted: unknown, ignored: readonly string[]): boolean {
  if (Array.isArray(wanted))
    return (
      !Array.isArray(found) ||
      found.length !== wanted.length ||
      wanted.some((one, index) => differs(found[index], one, ignored))
    );
  if (typeof wanted !== 'object' || wanted === null) return found !== wanted;
  return Object.entries(wanted).some(
    ([key, value]) =>
      !ignored.includes(key) && differs((found as HarborObject | undefined)?.[key], value, ignored),
  );
}
