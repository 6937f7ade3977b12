import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpus } from 'node:os';
import { Bitfield } from '@sepia/base/bitfield';
import { digestOf } from '@sepia/base/digest';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash } from '@sepia/metainfo/tree';
import { SwarmEngine } from '@sepia/swarm/shell/engine';
import type { PeerAddress } from '@sepia/swarm/swarm';

/**
 * CPU seconds per GiB of two processes, seed → leech, through the hardened wire on loopback. Disk is left out: the
 * seed sends one piece from memory over and over, the leech throws pieces away. `hashCpuSecPerGiB` is measured alone, so that the wire
 * itself is `recv − hash`. Run: `node bench/wire-cpu.ts [GIB]`; JSON on standard output.
 */
const GIB = Number(process.argv[2] ?? 2);
const KEY = new Uint8Array(32).fill(1);
const QUIET = { debug() {}, info() {}, warn() {}, error() {} };
const SIZE_BYTES = GIB * 2 ** 30;
const PIECE = new Uint8Array(PIECE_BYTES).map((_, i) => (i * 31) & 255);
const DIGEST = digestOf(new TextEncoder().encode(`wire-cpu ${GIB}`));

interface Answer {
  readonly cpuSec: number;
  readonly wallSec: number;
  readonly maxRssMiB: number;
}

function metainfo(): Metainfo {
  const hash = pieceHash(PIECE);
  const layer = new Uint8Array((SIZE_BYTES / PIECE_BYTES) * 32);
  for (let at = 0; at < layer.length; at += 32) layer.set(hash, at);
  return Metainfo.final(DIGEST, SIZE_BYTES, layer);
}

function engine(name: string): { engine: SwarmEngine; peerId: string } {
  const peerId = createHash('sha1').update(name).digest();
  return {
    engine: new SwarmEngine({ clusterKey: KEY, peerId, log: QUIET, random: 1 }),
    peerId: peerId.toString('hex'),
  };
}

function usage(cpu: NodeJS.CpuUsage, startMs: number): Answer {
  const used = process.cpuUsage(cpu);
  return {
    cpuSec: (used.user + used.system) / 1e6,
    wallSec: (performance.now() - startMs) / 1000,
    maxRssMiB: Math.round(process.resourceUsage().maxRSS / 1024),
  };
}

function report(answer: Answer): void {
  process.send!(answer, undefined, undefined, () => process.exit(0));
}

async function seed(): Promise<void> {
  const own = engine('seed');
  const { port } = await own.engine.listen('127.0.0.1:0');
  const pieces = {
    have: Bitfield.full(SIZE_BYTES / PIECE_BYTES),
    readPiece: async (_index: number, offset: number, length: number) =>
      PIECE.subarray(offset, offset + length),
    writePiece: async () => {},
  };
  own.engine.join({ digest: DIGEST, metainfo: metainfo(), pieces, leech: false });
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  process.once('message', () => {
    report(usage(cpu, startMs));
  });
  process.send!({ peerId: own.peerId, addresses: [`127.0.0.1:${port}`], origin: false });
}

async function leech(peer: PeerAddress): Promise<void> {
  const own = engine('leech');
  const have = new Bitfield(SIZE_BYTES / PIECE_BYTES);
  const pieces = {
    have,
    readPiece: async () => new Uint8Array(),
    writePiece: async (index: number) => {
      have.add(index);
    },
  };
  const swarm = own.engine.join({ digest: DIGEST, metainfo: metainfo(), pieces, leech: true });
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  swarm.onComplete(() => report(usage(cpu, startMs)));
  swarm.addPeers([peer]);
}

function hashCpuSecPerGiB(): number {
  const cpu = process.cpuUsage();
  for (let i = 0; i < 256; i++) pieceHash(PIECE);
  const used = process.cpuUsage(cpu);
  return ((used.user + used.system) / 1e6) * 4;
}

function message<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    child.once('message', (answer) => resolve(answer as T));
    child.once('error', reject);
  });
}

async function parent(): Promise<void> {
  const from = fork(import.meta.filename, [String(GIB)], {
    env: { ...process.env, SEPIA_BENCH_ROLE: 'seed' },
  });
  const peer = await message<PeerAddress>(from);
  const to = fork(import.meta.filename, [String(GIB)], {
    env: { ...process.env, SEPIA_BENCH_ROLE: 'leech', SEPIA_BENCH_PEER: JSON.stringify(peer) },
  });
  const recv = await message<Answer>(to);
  const sent = message<Answer>(from);
  from.send('end');
  const send = await sent;
  const hash = hashCpuSecPerGiB();
  const round = (n: number): number => Math.round(n * 1000) / 1000;
  const result = {
    bench: 'wire-cpu',
    command: `node bench/wire-cpu.ts ${GIB}`,
    node: process.version,
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    gib: GIB,
    wallSec: round(recv.wallSec),
    mibPerSec: Math.round((GIB * 1024) / recv.wallSec),
    sendCpuSecPerGiB: round(send.cpuSec / GIB),
    recvCpuSecPerGiB: round(recv.cpuSec / GIB),
    hashCpuSecPerGiB: round(hash),
    recvWithoutHashCpuSecPerGiB: round(recv.cpuSec / GIB - hash),
    sendMaxRssMiB: send.maxRssMiB,
    recvMaxRssMiB: recv.maxRssMiB,
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

const role = process.env['SEPIA_BENCH_ROLE'];
if (role === 'seed') await seed();
else if (role === 'leech') await leech(JSON.parse(process.env['SEPIA_BENCH_PEER']!) as PeerAddress);
else await parent();
