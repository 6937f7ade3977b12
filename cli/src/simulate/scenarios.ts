import { parseBytes } from '@sepia/base/config/units';
import { CodedError } from '@sepia/base/errors';
import type { Fault, KrakenOptions, SimulateOptions } from '@sepia/sim';

const PIECE_BYTES = 1024 * 1024;
const MBIT = 125_000;

/** What the command line may change of a scenario; undefined keeps the scenario's own. */
export interface SimulateFlags {
  readonly nodes: number | undefined;
  readonly origins: number | undefined;
  readonly trackers: number | undefined;
  /** One or more blobs that all pull at once. */
  readonly blobBytes: readonly number[] | undefined;
  readonly rateBytesPerSec: number | undefined;
  readonly seed: number;
  readonly faults: readonly Fault['kind'][];
}

interface Scenario {
  readonly nodes: number;
  readonly origins: number;
  /** Default 1. */
  readonly trackers?: number;
  readonly blobBytes: number | readonly number[];
  readonly rateBytesPerSec: number;
  readonly originRateBytesPerSec: number;
  /** Rate at which a cold blob arrives from the upstream; undefined: the origins have it. */
  readonly upstreamBytesPerSec: number | undefined;
  /** Kraken's policy is run beside it. */
  readonly besideKraken?: true;
  /** Of so many nodes that uploads mix in longer stretches than blocks of 128 KiB: a quarter of the events. */
  readonly blockBytes?: number;
  readonly meaning: string;
}

/** The design's numbers N3 to N6 without CPU and control plane, and a crowd in between. */
export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  warm: {
    nodes: 8,
    origins: 1,
    blobBytes: 512 * PIECE_BYTES,
    rateBytesPerSec: 100 * MBIT,
    originRateBytesPerSec: 400 * MBIT,
    upstreamBytesPerSec: undefined,
    meaning: '8 nodes, 512 MiB, 100 Mbit/s links, the origin has the blob and 400 Mbit/s (N3)',
  },
  cold: {
    nodes: 8,
    origins: 1,
    blobBytes: 512 * PIECE_BYTES,
    rateBytesPerSec: 100 * MBIT,
    originRateBytesPerSec: 400 * MBIT,
    upstreamBytesPerSec: 100 * MBIT,
    meaning: 'the same, but the origin fetches the blob at 100 Mbit/s meanwhile (N4)',
  },
  crowd: {
    nodes: 100,
    origins: 3,
    blobBytes: 256 * PIECE_BYTES,
    rateBytesPerSec: 125_000_000,
    originRateBytesPerSec: 250_000_000,
    upstreamBytesPerSec: undefined,
    meaning: '100 nodes with 1 Gbit/s, 3 origins with 2 Gbit/s, 256 MiB',
  },
  l12: {
    nodes: 1_000,
    origins: 5,
    blobBytes: 30_000_000,
    rateBytesPerSec: 125_000_000,
    originRateBytesPerSec: 125_000_000,
    upstreamBytesPerSec: 125_000_000,
    meaning:
      '1,000 nodes start the same image at once, all cold: the 30 MB that its start reads come from the registry at 1 Gbit/s, the links are 1 Gbit/s (L12)',
  },
  n5: {
    nodes: 2_600,
    origins: 5,
    trackers: 5,
    blobBytes: [1_500_000_000, 1_500_000_000],
    rateBytesPerSec: 300_000_000,
    originRateBytesPerSec: 300_000_000,
    upstreamBytesPerSec: undefined,
    besideKraken: true,
    blockBytes: 512 * 1024,
    meaning:
      '2,600 nodes, 5 origins, 5 trackers, 300 MB/s, 3 GB in two layers (N5); whole it takes many minutes',
  },
  n6: {
    nodes: 15_000,
    origins: 5,
    blobBytes: 1_000_000_000,
    rateBytesPerSec: 125_000_000,
    originRateBytesPerSec: 125_000_000,
    upstreamBytesPerSec: undefined,
    besideKraken: true,
    blockBytes: 512 * 1024,
    meaning: '15,000 nodes and 5 origins with 125 MB/s, 1 GB (N6); whole it takes half an hour and more',
  },
};

/** The simulator's options for a scenario with the given changes. @throws {CodedError} `CONFIG_INVALID` */
export function simulateOptions(
  name: string,
  flags: SimulateFlags,
): { options: SimulateOptions & KrakenOptions; trackers: number; blobBytes: number; limitMs: number } {
  const scenario = SCENARIOS[name];
  if (scenario === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `simulate: no scenario "${name}"; there are ${Object.keys(SCENARIOS).join(', ')}`,
    });
  const nodes = flags.nodes ?? scenario.nodes;
  const trackers = flags.trackers ?? scenario.trackers ?? 1;
  const rateBytesPerSec = flags.rateBytesPerSec ?? scenario.rateBytesPerSec;
  const blobs = flags.blobBytes ?? [scenario.blobBytes].flat();
  const pieces = blobs.map((bytes) => Math.max(1, Math.ceil(bytes / PIECE_BYTES)));
  const blobBytes = pieces.reduce((total, one) => total + one * PIECE_BYTES, 0);
  const { upstreamBytesPerSec, blockBytes } = scenario;
  const slowest = Math.min(rateBytesPerSec, upstreamBytesPerSec ?? Number.POSITIVE_INFINITY);
  const limitMs = (blobBytes / slowest) * 1000;
  // Several blobs share what the upstream gives.
  const landEveryMs =
    upstreamBytesPerSec === undefined ? 0 : ((PIECE_BYTES * blobs.length) / upstreamBytesPerSec) * 1000;
  if (nodes < 1) throw new CodedError('CONFIG_INVALID', { message: '--nodes: at least 1' });
  if (trackers < 1) throw new CodedError('CONFIG_INVALID', { message: '--trackers: at least 1' });
  return {
    options: {
      nodes,
      origins: flags.origins ?? scenario.origins,
      pieces,
      rateBytesPerSec,
      originRateBytesPerSec: Math.max(scenario.originRateBytesPerSec, rateBytesPerSec),
      landEveryMs,
      seed: flags.seed,
      faults: flags.faults.map((kind, index) => faultOf(kind, index, nodes, limitMs)),
      untilMs: limitMs * 20 + 60_000,
      ...(blockBytes === undefined ? {} : { blockBytes }),
    },
    trackers,
    blobBytes,
    limitMs,
  };
}

/** Bytes per second from `100Mbit`, `1Gbit`, `125MB`. @throws {CodedError} `CONFIG_INVALID` */
export function parseRate(text: string): number {
  const bits = /^(\d+(?:\.\d+)?)\s*([KMG])bit$/.exec(text);
  const factor = { K: 125, M: MBIT, G: 1000 * MBIT }[bits?.[2] ?? ''];
  const rate = bits !== null && factor !== undefined ? Number(bits[1]) * factor : parseBytes(text);
  if (rate === undefined || rate <= 0)
    throw new CodedError('CONFIG_INVALID', {
      message: `--rate: "${text}" is not a rate; write 100Mbit, 1Gbit or 125MB`,
    });
  return rate;
}

const LOSS = 0.01;
const BACK_MS = 2_000;
/** Kinds of `sepia simulate --fault`. */
export const FAULTS = ['kill', 'stop', 'corrupt', 'crash', 'tracker', 'partition', 'loss'] as const;

/** What `--fault KIND` means in a run of so many nodes: it comes after a third of the time that the line needs. */
function faultOf(kind: Fault['kind'], index: number, nodes: number, limitMs: number): Fault {
  const atMs = limitMs / 3;
  if (kind === 'tracker') return { kind, atMs };
  if (kind === 'loss') return { kind, share: LOSS, atMs: 0 };
  if (kind === 'partition') {
    const half = Array.from({ length: Math.floor(nodes / 2) }, (_, at) => `a${at}`);
    return { kind, nodes: half, atMs, untilMs: 2 * atMs };
  }
  const node = `a${index % nodes}`;
  return kind === 'crash' ? { kind, node, atMs, backMs: BACK_MS } : { kind, node, atMs };
}

/** @throws {CodedError} `CONFIG_INVALID` */
export function parseFault(text: string, before: readonly Fault['kind'][]): Fault['kind'][] {
  const kind = FAULTS.find((one) => one === text);
  if (kind === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `--fault: "${text}" is not one of ${FAULTS.join(', ')}`,
    });
  return [...before, kind];
}
