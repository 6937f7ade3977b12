import { type Digest, parseDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { delay } from '@sepia/base/lifecycle';
import { BY_HAND, type ConversionJob, type ConversionTask } from '@sepia/cluster/api/conversions';
import type { LayerBinding } from '@sepia/cluster/api/layer-binding';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { PROXY } from '@sepia/cluster/api/proxy';
import { to } from '@sepia/cluster/api/route';
import { LOOK_EVERY_MS, QUEUE_IDLE_MS } from '../deadlines.ts';
import type { Operator, OperatorName } from '../operator/operator.ts';
import { bytesText } from '../terminal/format.ts';

/** A layer of an image with what the cluster knows of it. */
export interface ClusterLayer {
  readonly layer: Digest;
  readonly binding: LayerBinding | undefined;
}

/**
 * Puts the indexing of an image into the cluster's queue and waits for its end.
 * @throws {CodedError} `NO_PEERS` where no accelerator takes the job, what the job failed with
 */
export async function indexInCluster(
  operator: Operator,
  name: OperatorName,
  onNote: (text: string) => void,
): Promise<ConversionJob> {
  const { upstream, repository, reference } = name;
  const task: ConversionTask = { kind: 'index', rule: BY_HAND, upstream, repository, tag: reference };
  const { id } = await operator.askProxy<{ id: string }>({ ...to(PROXY.conversionAdd), json: { task } });
  onNote(`job ${id} is on record`);
  const idleAtMs = performance.now() + QUEUE_IDLE_MS;
  for (let noted = ''; ; ) {
    await delay(LOOK_EVERY_MS);
    const { jobs } = await operator.askProxy<{ jobs: ConversionJob[] }>(to(PROXY.conversions));
    const job = jobs.find((one) => one.id === id);
    if (job === undefined) throw new CodedError('JOB_UNKNOWN', { message: `job ${id} is gone` });
    if (job.state === 'done') return job;
    if (job.state === 'dead' || job.state === 'cancelled')
      throw new CodedError('PEER_HTTP', { message: `job ${id}: ${job.error ?? job.state}` });
    if (job.state === 'waiting' && job.tries === 0 && performance.now() > idleAtMs)
      throw new CodedError('NO_PEERS', {
        message: `no accelerator takes job ${id}; it stays in the queue. Start one: sepia up --lazy, or sepia accelerator`,
      });
    const note = noteOf(job);
    if (note !== noted) onNote(note);
    noted = note;
  }
}

/** What the cluster knows of the layers of an image, of an index of all its images. @throws as the registry */
export async function layersInCluster(operator: Operator, name: OperatorName): Promise<ClusterLayer[]> {
  const layers = await layersOf(operator, name, name.reference, 0);
  return await Promise.all(
    [...new Set(layers)].map(async (layer) => {
      const call = to(PROXY.layer, { ...name, layer });
      const { binding } = await operator.askProxy<{ binding?: LayerBinding }>(call);
      return { layer, binding };
    }),
  );
}

/** One line for each layer: lazy, or why not. */
export function layerText({ layer, binding }: ClusterLayer): string {
  if (binding === undefined) return `${layer}  not indexed yet`;
  if (binding.index === undefined) return `${layer}  not lazy: ${binding.reason}`;
  const part = binding.kind === undefined ? '' : `, ${PART_TEXTS[binding.kind]}`;
  const index = `index ${binding.index}, ${bytesText(binding.indexBytes ?? 0)}, by ${binding.by}${part}`;
  return binding.bad === undefined
    ? `${layer}  lazy: ${index}`
    : `${layer}  not lazy: its index is bad (${binding.bad.reason}; said ${binding.bad.by})`;
}

const PART_TEXTS = {
  'nydus-bootstrap': 'bootstrap of a Nydus image',
  'nydus-blob': 'data blob of Nydus images',
} as const;

async function layersOf(
  operator: Operator,
  name: OperatorName,
  reference: string,
  depth: number,
): Promise<Digest[]> {
  const manifest = await operator.askOwner<{
    manifests?: { digest: string; annotations?: Record<string, string> }[];
    layers?: { digest: string }[];
  }>(name, to(ORIGIN_NAMES.manifest, { ...name, reference }));
  if (manifest.layers !== undefined) return manifest.layers.map((one) => parseDigest(one.digest));
  const images = (manifest.manifests ?? []).filter(
    (one) => one.annotations?.['vnd.docker.reference.type'] === undefined,
  );
  if (depth > 0) return [];
  const found: Digest[] = [];
  for (const { digest } of images) {
    try {
      found.push(...(await layersOf(operator, name, digest, depth + 1)));
    } catch (error) {
      // A child of another platform that nobody copied here.
      if (!isCoded(error) || error.facts.status !== 404) throw error;
    }
  }
  return found;
}

function noteOf(job: ConversionJob): string {
  const layers = job.progress?.layers ?? [];
  const done = layers.filter((one) => one.phase === 'done').length;
  const running = layers
    .filter((one) => one.phase !== 'done')
    .map((one) => `${Math.floor(100 * one.share)} %`);
  const failed = job.error === undefined ? '' : ` (${job.error}; it is tried again)`;
  return job.state === 'running'
    ? `${job.holder?.split('.')[0] ?? 'an accelerator'} indexes: ${done} layers done${running.length === 0 ? '' : `, ${running.join(', ')} of the next`}`
    : `waiting for an accelerator${failed}`;
}
