import { parseBytes } from '@sepia/base/config/units';
import { CodedError } from '@sepia/base/errors';
import type { Fault, KrakenOptions, SimulateOptions } from '@sepia/sim';

const PIECE_BYTES = 1024 * 1024;
const MBIT = 125_000;

/** What the command line may change of a scenario; undefined keeps the scenario's own. */
export interface SimulateFlags {
  readonly nodes: number | undefined;
  readonly origins: number | undefined;
  readonly blobBytes: number | undefined;
  readonly rateBytesPerSec: number | undefined;
  readonly seed: number;
  readonly faults: readonly Fault['kind'][];
}

interface Scenario {
  readonly nodes: number;
  readonly origins: number;
  readonly blobBytes: number;
  readonly rateBytesPerSec: number;
  readonly originRateBytesPerSec: number;
  /** Rate at which a cold blob arrives from the upstream; undefined: the origins have it. */
  readonly upstreamBytesPerSec: number | undefined;
  /** Kraken's policy is run beside it. */
  readonly besideKraken?: true;
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
    blobBytes: 3_000_000_000,
    rateBytesPerSec: 300_000_000,
    originRateBytesPerSec: 300_000_000,
    upstreamBytesPerSec: undefined,
    besideKraken: true,
    meaning: '2,600 nodes and 5 origins with 300 MB/s, 3 GB as one blob (N5); whole it takes hours',
  },
  n6: {
    nodes: 15_000,
    origins: 5,
    blobBytes: 1_000_000_000,
    rateBytesPerSec: 125_000_000,
    originRateBytesPerSec: 125_000_000,
    upstreamBytesPerSec: undefined,
    besideKraken: true,
    meaning: '15,000 nodes and 5 origins with 125 MB/s, 1 GB (N6); whole it takes hours',
  },
};

/** The simulator's options for a scenario with the given changes. @throws {CodedError} `CONFIG_INVALID` */
export function simulateOptions(
  name: string,
  flags: SimulateFlags,
): { options: SimulateOptions & KrakenOptions; blobBytes: number; limitMs: number } {
  const scenario = SCENARIOS[name];
  if (scenario === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `simulate: no scenario "${name}"; there are ${Object.keys(SCENARIOS).join(', ')}`,
    });
  const nodes = flags.nodes ?? scenario.nodes;
  const rateBytesPerSec = flags.rateBytesPerSec ?? scenario.rateBytesPerSec;
  const blobBytes = flags.blobBytes ?? scenario.blobBytes;
  const pieces = Math.max(1, Math.ceil(blobBytes / PIECE_BYTES));
  const slowest = Math.min(rateBytesPerSec, scenario.upstreamBytesPerSec ?? Number.POSITIVE_INFINITY);
  const limitMs = ((pieces * PIECE_BYTES) / slowest) * 1000;
  const landEveryMs =
    scenario.upstreamBytesPerSec === undefined ? 0 : (PIECE_BYTES / scenario.upstreamBytesPerSec) * 1000;
  if (nodes < 1) throw new CodedError('CONFIG_INVALID', { message: '--nodes: at least 1' });
  return {
    options: {
      nodes,
      origins: flags.origins ?? scenario.origins,
      pieces,
      rateBytesPerSec,
      originRateBytesPerSec: Math.max(scenario.originRateBytesPerSec, rateBytesPerSec),
      landEveryMs,
      seed: flags.seed,
      faults: flags.faults.map((kind, index) => ({ kind, node: `a${index % nodes}`, atMs: limitMs / 3 })),
      untilMs: limitMs * 20 + 60_000,
    },
    blobBytes: pieces * PIECE_BYTES,
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

/** @throws {CodedError} `CONFIG_INVALID` */
export function parseFault(text: string, before: readonly Fault['kind'][]): Fault['kind'][] {
  if (text !== 'kill' && text !== 'stop' && text !== 'corrupt')
    throw new CodedError('CONFIG_INVALID', {
      message: `--fault: "${text}" is not one of kill, stop, corrupt`,
    });
  return [...before, text];
}
