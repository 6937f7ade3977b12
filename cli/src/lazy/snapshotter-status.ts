import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { request } from 'undici';
import { z } from 'zod';

const LAYERS = z.array(
  z.object({
    indexFile: z.string(),
    image: z.string(),
    layer: z.string().optional(),
    diffId: z.string().optional(),
    state: z.enum(['lazy', 'complete', 'hidden', 'refused']),
    reason: z.string().optional(),
    spans: z.number(),
    spansHere: z.number(),
  }),
);

export type SnapshotterLayer = z.infer<typeof LAYERS>[number];

const ANSWER_MS = 5_000;

/**
 * The layers of the snapshotter on this node.
 * @throws {CodedError} `PEER_HTTP` where none answers at `admin`
 */
export async function snapshotterLayers(admin: string): Promise<SnapshotterLayer[]> {
  try {
    const signal = AbortSignal.timeout(ANSWER_MS);
    const { statusCode, body } = await request(`${admin}/debug/layers`, { signal });
    if (statusCode === 200) return LAYERS.parse(await body.json());
    await body.dump();
    throw new CodedError('PEER_HTTP', { message: `${admin} is no snapshotter: it answers ${statusCode}` });
  } catch (error) {
    throwIfBug(error);
    if (error instanceof CodedError) throw error;
    throw new CodedError('PEER_HTTP', {
      message: `no snapshotter answers at ${admin} (${systemCode(error) ?? (error as Error).message}); images are pulled the ordinary way`,
      cause: error,
    });
  }
}

/** One line for each layer, with the reason where it is not shown. */
export function statusText(layers: readonly SnapshotterLayer[]): string {
  if (layers.length === 0) return 'no layers: images are pulled the ordinary way\n';
  return layers
    .map((one) => {
      const share = one.spans === 0 ? '' : ` ${Math.floor((100 * one.spansHere) / one.spans)} %`;
      const why = one.reason === undefined ? '' : `: ${one.reason}`;
      return `${one.state.padEnd(8)}${share.padStart(6)}  ${one.image}  ${one.layer ?? one.indexFile}${why}\n`;
    })
    .join('');
}
