import * as shipped from '@sepia/records/core/standing';

export * from '@sepia/records/core/standing';

/** A new generation that counts before anything was handed over to it. */
export const begin: typeof shipped.begin = (before, generation, kept) => ({
  ...shipped.begin(before, generation, kept),
  settled: true,
});
