import { DIGEST } from '@sepia/base/names/digest-schema';
import { z } from 'zod';
import { LAYER_BINDING } from './layer-binding.ts';
import { START_PATHS } from './start-profile.ts';

const REASON = z.string().max(1_000);

/** Bounds of {@link START_COMMAND}: what is longer is left out. */
export const MAX_COMMAND_WORDS = 16;
/** Longest word or path in it, in characters. */
export const MAX_COMMAND_TEXT = 4_096;

/** What the config of an image says that it runs: a hint of what is read first, nothing is believed for it. */
const START_COMMAND = z.object({
  /** Entrypoint, then command. */
  words: z.array(z.string().max(MAX_COMMAND_TEXT)).max(MAX_COMMAND_WORDS),
  /** `PATH` and `LD_LIBRARY_PATH` of its environment. */
  path: z.string().max(MAX_COMMAND_TEXT),
  loaderPath: z.string().max(MAX_COMMAND_TEXT),
  folder: z.string().max(MAX_COMMAND_TEXT),
});
/** What an image runs, by its config: a hint of what is read first, nothing more. */
export type StartCommand = z.infer<typeof START_COMMAND>;

/** Most layers of an image that is lazy. */
export const MAX_OFFER_LAYERS = 500;

/** The member that an agent is to the snapshotter of its node: calls are signed with the node's secret. */
export const AGENT_OF_NODE = 'agent';

/**
 * An image that somebody pulls on a node: its config is held back until the node's snapshotter says that it has shown
 * the layers, or will not. The agent vouches that this repository may read each of them, and that bindings are signed.
 */
const LAZY_OFFER = z.object({
  id: z.string().min(1).max(64),
  upstream: z.string().min(1).max(64),
  repository: z.string().min(1).max(255),
  /** Digest of the image's manifest. */
  manifest: DIGEST,
  /** The config goes out after this, whatever the snapshotter says, in ms. */
  waitMs: z.number().int().min(0),
  command: START_COMMAND.optional(),
  /** What a recorded start of this image, or of its repository, read first: a hint, as `command`. */
  readFirst: START_PATHS.optional(),
  /** A Nydus image: its last layer has the bootstrap, the others are data blobs. It is mounted, or cannot be used here. */
  isNydus: z.boolean().default(false),
  /** Why the image cannot be lazy. Layers with its diffIDs must not be shown to it all the same. */
  reason: REASON.optional(),
  layers: z
    .array(
      z.object({
        digest: DIGEST,
        sizeBytes: z.number().int().min(0),
        /** What the image's config claims. */
        diffId: DIGEST,
        /** A binding of a later version, which is not understood, counts as none, and does not spoil the rest of the list. */
        binding: z.union([LAYER_BINDING, z.unknown().transform(() => undefined)]).optional(),
        /** Nobody in the cluster answered for this layer: what the node itself has checked before counts. */
        isUnanswered: z.boolean().default(false),
      }),
    )
    .max(MAX_OFFER_LAYERS),
});
/** An offered image, as an agent tells its node's snapshotter of it; see `LAZY_OFFER`. */
export type LazyOffer = z.infer<typeof LAZY_OFFER>;

/** Answer of `GET /v1/lazy/offers?wait=<ms>` of an agent. */
export const LAZY_OFFERS = z.object({ offers: z.array(LAZY_OFFER).max(100) });

/** Body of `POST /v1/lazy/offers/<id>`: what the snapshotter made of an offered image. */
export const LAZY_ANSWER = z.object({
  isShown: z.boolean(),
  /** The image must not be pulled now, and why: it would show another image's layer. */
  refusal: REASON.optional(),
  /** Why a Nydus image is not shown: without that no runtime can use it. */
  unusable: REASON.optional(),
  /** It is not known yet whether it would: asked again, the snapshotter may say otherwise. */
  isPending: z.boolean().optional(),
});
/** What a snapshotter says to an offer: whether it shows the layers, and if not, why. */
export type LazyAnswer = z.infer<typeof LAZY_ANSWER>;

/** Body of `POST /v1/lazy/complaints`: an index does not fit its layer. */
export const LAZY_COMPLAINT = z.object({
  upstream: z.string().min(1).max(64),
  repository: z.string().min(1).max(255),
  layer: DIGEST,
  index: DIGEST,
  reason: REASON.min(1),
});
/** A snapshotter's complaint that an index does not fit its layer. */
export type LazyComplaint = z.infer<typeof LAZY_COMPLAINT>;
