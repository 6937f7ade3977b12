import { DIGEST } from '@sepia/base/names/digest-schema';
import { z } from 'zod';

/** Longest path, as Linux has it. */
const MAX_PATH = 4_096;
/** UTF-8 bytes of a profile's paths together: a record of two must fit into a message between members. */
const MAX_PROFILE_BYTES = 48 * 1024;
const MAX_PATHS = 10_000;

/** Paths within an image, in the order in which its start reads them. */
export const START_PATHS = z.array(z.string().min(1).max(MAX_PATH)).max(MAX_PATHS);

/** What the start of an image reads first, as a node recorded it. A hint: what it names is fetched first, nothing else follows from it. */
export const START_PROFILE = z.object({
  /** Manifest of the image that was run. */
  manifest: DIGEST,
  paths: START_PATHS.min(1).refine((paths) => pathBytes(paths) <= MAX_PROFILE_BYTES, {
    message: `are together longer than ${MAX_PROFILE_BYTES} bytes`,
  }),
  by: z.string().min(1).max(160),
  atMs: z.number().int().min(0),
});
/** What the start of an image reads first, as {@link START_PROFILE} reads it. */
export type StartProfile = z.infer<typeof START_PROFILE>;

/** Body of `PUT /v1/profiles` at a proxy. */
export const PROFILE_CALL = z.object({ profile: START_PROFILE.omit({ by: true, atMs: true }) });

/** Answer of `GET /v1/profiles`: the image's own, else the newest of its repository. */
export const PROFILE_ANSWER = z.object({ profile: START_PROFILE.optional() });

/** The first paths that fit into a profile. */
export function fittingPaths(paths: readonly string[]): string[] {
  const fitting: string[] = [];
  let bytes = 0;
  for (const path of paths) {
    if (path === '' || path.length > MAX_PATH) continue;
    bytes += Buffer.byteLength(path) + 1;
    if (bytes > MAX_PROFILE_BYTES || fitting.length === MAX_PATHS) break;
    fitting.push(path);
  }
  return fitting;
}

function pathBytes(paths: readonly string[]): number {
  return paths.reduce((sum, path) => sum + Buffer.byteLength(path) + 1, 0);
}
