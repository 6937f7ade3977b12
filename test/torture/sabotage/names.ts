/** Ways to break Sepia on purpose, each of which the tool must see. */
export const SABOTAGES = [
  'empty-acceptor-votes',
  'promise-forgotten',
  'owner-skipped',
  'fsync-skipped',
  'chunk-dropped',
  'merge-depends-on-order',
  'accept-forgotten',
  'owners-unwritten',
  'tag-frozen',
] as const;
export type SabotageName = (typeof SABOTAGES)[number];
