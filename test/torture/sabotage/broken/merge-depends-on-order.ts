import type * as shipped from '@sepia/records/core/join';

export * from '@sepia/records/core/join';

/** What comes later wins where the clocks are the same, and lays its fields over those that were there. */
const joinOverlaid: shipped.Join = (a, b) => {
  if (b.atMs < a.atMs) return a;
  return a.value === undefined || b.value === undefined ? b : { ...b, value: { ...a.value, ...b.value } };
};

export const joinWhole: shipped.Join = joinOverlaid;
export const joinFields: shipped.Join = joinOverlaid;
