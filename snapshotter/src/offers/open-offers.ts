import { MemberClock } from '@sepia/base/clock/member-clock';
import { CodedError } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { LazyOffer } from '@sepia/cluster/api/lazy-offers';
import { InternalClient } from '@sepia/http/client';
import type { Dispatcher } from '@sepia/http/sockets';
import type { AgentSource } from '../layers/agent-source.ts';
import type { IndexFolder } from '../layers/index-folder.ts';
import type { Layers } from '../layers/layers.ts';
import type { LazyLayer } from '../layers/lazy-layer.ts';
import type { Grants } from '../snapshots/core/grants.ts';
import { AgentCalls } from './agent-calls.ts';
import type { Findable } from './core/findable.ts';
import type { ImageTable } from './image-table.ts';
import { KeptImages } from './kept-images.ts';
import { LayerProofs } from './layer-proofs.ts';
import { Publisher } from './publisher.ts';

/** The agent of this node, as the config names it, and where what is known of pulls stays. */
interface AgentAt {
  readonly data: string;
  readonly agent: string;
  readonly nydus: 'mount' | 'leave';
}

interface Parts {
  readonly config: AgentAt;
  readonly dispatcher: Dispatcher;
  readonly source: Pick<AgentSource, 'read' | 'readIfThere'>;
  readonly indexes: IndexFolder;
  readonly layers: Layers;
  readonly findable: Findable | undefined;
  readonly show: (layer: LazyLayer) => Promise<void>;
  readonly grants: Grants;
  /** The image will be started from these layers; must not throw. */
  readonly expectStart: (offer: LazyOffer, layers: readonly LazyLayer[]) => void;
  readonly log: Logger;
}

/** What makes pulls of this node lazy. */
export interface OfferSide {
  readonly images: ImageTable;
  /** Why no pull becomes lazy now. */
  lack(): string | undefined;
  /** Why the agent takes no call of this node, for good. */
  refusal(): string | undefined;
  complain(layer: LazyLayer, error: CodedError): void;
  stop(): Promise<void>;
}

/** Begins to take images that are pulled from the agent. */
export async function openOffers(parts: Parts, secret: Uint8Array): Promise<OfferSide> {
  const { config, dispatcher, source, indexes, layers, findable, show, grants, expectStart, log } = parts;
  const clock = new MemberClock();
  const client = new InternalClient({ dispatcher, clusterKey: secret, memberId: 'snapshotter', clock });
  const agent = new AgentCalls({ client, url: config.agent });
  const kept = await KeptImages.open(log, config.data);
  const images = kept.table;
  for (const { image, isLazy, layers: own } of images.list().toReversed())
    if (isLazy) for (const one of own) layers.readAlsoFrom(one, image);
  const proofs = new LayerProofs({ source });
  const publisher = new Publisher({
    agent,
    ...{ findable, leavesNydus: config.nydus === 'leave' },
    images,
    proofs,
    layersOf: (diffId) => layers.layersOf(diffId),
    kindOf: (diffId) => layers.byDiffId(diffId)?.index.kind,
    open: async (...asked) => await openForPull({ layers, indexes, source }, ...asked),
    show,
    grant: (offer) => grants.add(offer.manifest, offer.layers, performance.now()),
    expectStart,
    log,
    nowMs: () => performance.now(),
    wallMs: clock.nowMs,
  });
  return {
    images,
    lack: () => publisher.lack,
    refusal: () => publisher.refusal,
    complain: (layer, error) => {
      const { host: upstream, repository } = layer.home;
      const known = layers.indexOf(layer);
      if (known === undefined) return;
      const complaint = { upstream, repository, layer: layer.index.layer, index: known };
      agent
        .complain({ ...complaint, reason: error.message })
        .catch((failure: unknown) => logFailure(log, failure, 'a bad index was not reported', complaint));
    },
    stop: async () => {
      await Promise.all([proofs.stop(), publisher.stop()]);
      await kept.settled();
    },
  };
}

/** Opens a layer for the pull of an image that names it, by the index that its record names. @throws as {@link Layers.adopt} */
export async function openForPull(
  { layers, indexes, source }: Pick<Parts, 'layers' | 'indexes' | 'source'>,
  offer: Pick<LazyOffer, 'upstream' | 'repository'>,
  { digest, diffId, binding }: Pick<LazyOffer['layers'][number], 'digest' | 'diffId' | 'binding'>,
  signal: AbortSignal,
): Promise<LazyLayer> {
  // From now on it does not make room: with it would go the index that this pull gets.
  const open = layers.use(diffId);
  // Nobody answered for it, and it is open from before.
  if (binding?.index === undefined) return openAlready(open);
  const image = `${offer.upstream}/${offer.repository}`;
  const { index, indexBytes = 0, home } = binding;
  const at = { host: home.upstream, repository: home.repository, digest: index };
  const read = async (): Promise<Buffer> => await source.read(at, 0, indexBytes, signal);
  return await layers.adopt(await indexes.keep({ layer: digest, index, image }, read), diffId);
}

function openAlready(layer: LazyLayer | undefined): LazyLayer {
  if (layer === undefined) throw new CodedError('LAYER_NOT_LAZY', { message: 'it is not open here' });
  return layer;
}
