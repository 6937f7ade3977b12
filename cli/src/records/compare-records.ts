import { canonicalJson } from '@sepia/records/core/join';
import type { RecordSpace } from '@sepia/records/core/record-space';
import { settledValue } from '@sepia/records/register/envelope';
import type { DumpedRecord } from '@sepia/records/store/record-dump';

/** What a record says, whoever keeps it: neither ballots nor clocks. Undefined: nothing is there. Pure. */
export function meaningOf(space: RecordSpace, { key, stored }: DumpedRecord): string | undefined {
  const { value } = stored as { readonly value?: unknown };
  const said = space === 'r1' ? settledValue(key, value as never) : value;
  return said === undefined ? undefined : canonicalJson(said);
}

/** Keys of the records of a space that do not say the same on both sides; each side is in the order of its keys' bytes. */
export async function* differences(
  space: RecordSpace,
  one: AsyncIterable<DumpedRecord>,
  other: AsyncIterable<DumpedRecord>,
): AsyncGenerator<string, void, void> {
  const [left, right] = [one[Symbol.asyncIterator](), other[Symbol.asyncIterator]()];
  let [a, b] = [await left.next(), await right.next()];
  while (a.done !== true || b.done !== true) {
    const order = a.done === true ? 1 : b.done === true ? -1 : compareKeys(a.value.key, b.value.key);
    const mine = a.done !== true && order <= 0 ? a.value : undefined;
    const yours = b.done !== true && order >= 0 ? b.value : undefined;
    const [said, told] = [mine, yours].map((record) => record && meaningOf(space, record));
    if (said !== told) yield (mine ?? yours)!.key;
    if (mine !== undefined) a = await left.next();
    if (yours !== undefined) b = await right.next();
  }
}

function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
