import * as shipped from '@sepia/records/core/standing';

export * from '@sepia/records/core/standing';

/** A new generation that counts although one of the owners it needs did not hand over. */
export const takeOver: typeof shipped.takeOver = (asker, source, sets) => {
  const next = shipped.takeOver(asker, source, sets);
  const isOneShort = sets.every((owners) => {
    const others = owners.filter((id) => id !== next.id && next.handed.includes(id));
    return others.length + 1 >= Math.ceil(owners.length / 2);
  });
  return { ...next, settled: next.settled || isOneShort };
};
