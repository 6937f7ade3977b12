import { isDigest } from '@sepia/base/digest';
import { isRepositoryName, isTag } from '@sepia/base/names/repository';
import { z } from 'zod';

/** The rule of tasks that somebody put in by hand. */
export const BY_HAND = 'by-hand';

/** What is done about an image in this version; a later one may have more, which wait for accelerators that know them. */
export const TASK_KINDS = ['convert', 'remove', 'index'] as const;

/**
 * What a conversion job is about: a tag of an upstream, by a rule of the cluster document. `index`: the layers of an
 * image get their indexes, and `tag` may be a digest; by hand too, and then also those that have one that is bad.
 */
const CONVERSION_TASK = z.object({
  kind: z.enum(TASK_KINDS).or(z.string().min(1).max(32)),
  rule: z.string().min(1).max(64),
  upstream: z.string().min(1).max(64),
  repository: z
    .string()
    .refine((text): boolean => isRepositoryName(text), { message: 'is not a repository name' }),
  tag: z.string().refine((text): boolean => isTag(text) || isDigest(text), { message: 'is not a tag' }),
  /** What the tag was said to point at; where it points is asked when the job runs. */
  digest: z.string().max(160).optional(),
});
/** What a conversion job is about, as {@link CONVERSION_TASK} reads it. */
export type ConversionTask = z.infer<typeof CONVERSION_TASK>;

/** What names the job of a task: of one key at most one is open. */
export function conversionKey(
  task: Pick<ConversionTask, 'rule' | 'upstream' | 'repository' | 'tag'>,
): string {
  return [task.rule, task.upstream, task.repository, task.tag].join('\n');
}

/** Whose the job of a key is. */
export function conversionOwner(key: string): string {
  const [, upstream = '', repository = ''] = key.split('\n');
  return projectOf({ upstream, repository });
}

/** An upstream's project, by the first part of its repositories' names. */
export function projectOf(image: { readonly upstream: string; readonly repository: string }): string {
  return `${image.upstream}/${image.repository.split('/')[0]}`;
}

const HOLDER = z.string().min(1).max(160);

/** Bodies of `POST /v1/conversions/…` at a proxy; what a later version says of a task is kept (ADR 12). */
export const CONVERSION_CALLS = {
  /** `isFound`: a scan found it, nobody told it; it is not put in where a job about it was cancelled, or died lately. */
  add: z.object({ task: CONVERSION_TASK.loose(), isFound: z.boolean().optional() }),
  /** `kinds`: what the holder knows; left out, as before: all. */
  take: z.object({
    holder: HOLDER,
    limit: z.number().int().min(1).max(64),
    kinds: z.array(z.string().max(32)).max(64).optional(),
  }),
  renew: z.object({ holder: HOLDER, progress: z.unknown().optional() }),
  finish: z.object({ holder: HOLDER, result: z.unknown() }),
  fail: z.object({ holder: HOLDER, error: z.string().max(4_000), isFinal: z.boolean() }),
  release: z.object({ holder: HOLDER }),
} as const;

/** A job as `GET /v1/conversions` shows it. Of one `key` at most one job is open. Dates are ms since 1970. */
export interface ConversionJob {
  readonly id: string;
  readonly key: string;
  readonly payload: ConversionTask;
  readonly state: 'waiting' | 'running' | 'done' | 'dead' | 'cancelled';
  readonly addedAtMs: number;
  readonly notBeforeMs: number;
  readonly tries: number;
  readonly holder?: string;
  readonly progress?: ConversionProgress;
  readonly result?: ConversionOutcome;
  readonly error?: string;
  readonly endedAtMs?: number;
}

/** How far a running job is, layer by layer, as its accelerator said last. */
export interface ConversionProgress {
  readonly layers: readonly {
    readonly digest: string;
    readonly phase: 'pull' | 'convert' | 'push' | 'done';
    /** 0 to 1 of the phase. */
    readonly share: number;
    /** Whose layer it is, as `linux/arm64`, where the image is an index that says it. */
    readonly platforms?: readonly string[];
  }[];
}

/** What became of a job whose state is `done`, with figures of the work; what does not apply is left out. */
export interface ConversionOutcome {
  /** `skipped` says why in `reason`. */
  readonly outcome: 'converted' | 'indexed' | 'unchanged' | 'skipped' | 'removed';
  readonly reason?: string;
  /** There was nothing to convert: the tag is not there. */
  readonly isSourceGone?: true;
  /** A result that cannot be taken away at this registry, though its source is gone. */
  readonly stays?: true;
  readonly source?: string;
  readonly target?: string;
  readonly digest?: string;
  readonly sourceBytes?: number;
  readonly targetBytes?: number;
  readonly layers?: number;
  readonly layersFromCache?: number;
  readonly layersKept?: number;
  /** Layers whose index was made with one that the image's registry had, as its referrer. */
  readonly layersTaken?: number;
  /** Layers that have no index, and why. */
  readonly notLazy?: readonly string[];
  /** What was attached to the source and is not to the result: signatures, SBOMs, by type. */
  readonly lost?: readonly string[];
}
