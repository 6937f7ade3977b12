import type { Socket } from 'node:net';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { Bans } from '../core/bans.ts';
import type { CoreLimits } from '../core/limits.ts';
import { SharedLine } from '../core/line/shared-line.ts';
import { Unproven } from '../core/unproven.ts';
import { UNPROVEN_WIRES, WIRE_LIMITS } from '../limits.ts';
import type { JoinInit, Swarm, SwarmLog } from '../swarm.ts';
import { swarmId } from '../swarm-id.ts';
import { HardenedWire } from '../wire/wire.ts';
import type { GoneReason } from '../wire/wire-extensions.ts';
import type { LinkOwner, PieceWire } from '../wire/wire-owner.ts';
import { BlockBuffers } from './block-buffers.ts';
import type { EngineParts } from './engine-parts.ts';
import { readGreeting } from './greeting.ts';
import { type Audience, type Listener, type SwarmNet, TCP } from './net.ts';
import { SwarmShell } from './shell.ts';
import { SLAB_COUNT, SlabPool } from './slab-pool.ts';
import { type StrangerLimits, StrangerRoom } from './stranger-room.ts';
import { WireWarnings } from './wire-warnings.ts';

/** What an engine needs. `clusterKey` and `peerId` (20 bytes) are not copied and must not change. */
export interface SwarmEngineDeps {
  readonly clusterKey: Uint8Array;
  readonly peerId: Uint8Array;
  readonly log: SwarmLog;
  /** Seed of all chance; drawn from the peer id when left out. */
  readonly random?: number;
  /** How peers are reached. Default: sockets of this machine. */
  readonly net?: SwarmNet;
}

export interface SwarmEngineOptions {
  /** This member is an origin: it super-seeds, and peers count its bytes as the origin's. */
  readonly origin?: boolean;
  readonly zone?: string;
  /** Pieces that may be requested or unwritten at once, over all swarms (1 MiB each). */
  readonly slabs?: number;
  readonly limits?: Partial<CoreLimits>;
  /** What is spent on peers that are no members. */
  readonly strangers?: StrangerLimits;
}

/** All swarms of one data worker: one port, one buffer pool, one upload budget. Rejections and throws never leave it. */
export class SwarmEngine {
  readonly #parts: EngineParts;
  readonly #seed: number;
  readonly #swarms = new Map<string, SwarmShell>();
  readonly #listeners: Listener[] = [];
  readonly #unproven = new Unproven<Pick<PieceWire, 'goodbye' | 'fail'>>(UNPROVEN_WIRES);
  #joined = 0;
  #stopped = false;

  constructor(deps: SwarmEngineDeps, options: SwarmEngineOptions = {}) {
    if (deps.peerId.length !== 20) throw new TypeError('peerId must have 20 bytes');
    this.#seed = deps.random ?? Buffer.from(deps.peerId).readUInt32BE(16);
    const buffers = new BlockBuffers(WIRE_LIMITS.uploadReadBytes);
    const uploads = { usedBytes: 0, limitBytes: WIRE_LIMITS.engineUploadBytes, buffers };
    this.#parts = {
      clusterKey: deps.clusterKey,
      peerId: deps.peerId,
      log: deps.log,
      net: deps.net ?? TCP,
      origin: options.origin ?? false,
      zone: options.zone ?? '',
      slabs: new SlabPool(options.slabs ?? SLAB_COUNT),
      uploads,
      strangers: new StrangerRoom({ members: uploads, buffers }, options.strangers),
      torrents: new Map(),
      limits: options.limits ?? {},
      bans: new Bans(),
      line: new SharedLine(performance.now()),
      warnings: new WireWarnings({ log: deps.log }),
    };
  }

  /** Listens on `host:port` (port 0: any). May be called for several addresses. @throws `START_FAILED` */
  async listen(address: string): Promise<{ address: string; port: number }> {
    const listener = await this.#parts.net.listen(address, (socket, audience) =>
      this.#onSocket(socket, audience),
    );
    if (this.#stopped) await listener.close();
    else this.#listeners.push(listener);
    return { address: listener.address, port: listener.port };
  }

  /** Takes part in a blob's swarm. @throws {TypeError} if the engine is stopped or takes part already */
  join(init: JoinInit): Swarm {
    if (this.#stopped) throw new TypeError('engine is stopped');
    const id = swarmId(this.#parts.clusterKey, init.digest);
    const hex = Buffer.from(id).toString('hex');
    if (this.#swarms.has(hex)) throw new TypeError(`already in the swarm of ${init.digest}`);
    const swarm = new SwarmShell(this.#parts, id, init, this.#seed + this.#joined++, () =>
      this.#swarms.delete(hex),
    );
    this.#swarms.set(hex, swarm);
    return swarm;
  }

  get(digest: Digest): Swarm | undefined {
    return this.#swarms.get(Buffer.from(swarmId(this.#parts.clusterKey, digest)).toString('hex'));
  }

  swarms(): Iterable<Swarm> {
    return this.#swarms.values();
  }

  /** Slabs that are out: requested or unwritten pieces. */
  get slabsTaken(): number {
    return this.#parts.slabs.taken;
  }

  /** Leaves all swarms and ends all sockets, timers and listeners. Idempotent. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const swarm of [...this.#swarms.values()]) swarm.stop('stopping');
    for (const wire of this.#unproven.connections()) wire.goodbye('stopping');
    this.#parts.strangers.stop();
    await Promise.all(this.#listeners.splice(0).map((listener) => listener.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #onSocket(socket: Socket, audience: Audience = 'anyone'): void {
    const from = socket.remoteAddress ?? '';
    const entry = this.#unproven.admit(from);
    if (this.#stopped || entry.type === 'refuse') {
      socket.destroy();
      return;
    }
    if (entry.instead !== undefined) {
      this.#unproven.delete(entry.instead);
      entry.instead.fail(new CodedError('OVERLOADED', { message: 'others dial as well' }));
    }
    if (this.#parts.torrents.size === 0) {
      this.#takeMember(socket, audience);
      return;
    }
    const greeting = { goodbye: () => giveUp(), fail: () => giveUp() };
    this.#unproven.add(greeting, from);
    const giveUp = readGreeting(socket, WIRE_LIMITS.handshakeMs, (infoHash, bytes) => {
      this.#unproven.delete(greeting);
      if (infoHash === undefined) return;
      const swarm = this.#parts.torrents.get(infoHash);
      if (swarm !== undefined) swarm.acceptStranger(socket, bytes);
      else this.#takeMember(socket, audience)?._write(bytes, () => undefined);
    });
  }

  /** Whoever names no torrent is a member, or says so. */
  #takeMember(socket: Socket, audience: Audience): HardenedWire | undefined {
    if (audience === 'anyone') return this.#onMember(socket);
    const error = new CodedError('TLS_REQUIRED', { message: 'a wire came in plain; members are encrypted' });
    this.#parts.warnings.ended(error, 'wire refused', { address: socket.remoteAddress ?? '' });
    socket.destroy();
    return undefined;
  }

  #onMember(socket: Socket): HardenedWire {
    const { clusterKey, peerId, origin, zone } = this.#parts;
    const from = socket.remoteAddress ?? '';
    let swarm: SwarmShell | undefined;
    let refusal: GoneReason | undefined;
    let link: LinkOwner['events'] | undefined;
    const wire: HardenedWire = new HardenedWire({
      socket,
      role: 'listener',
      clusterKey,
      peerId,
      origin,
      zone,
      owner: {
        onSwarm: (id, peer) => {
          swarm = this.#swarms.get(id);
          refusal = swarm === undefined ? 'dropped' : swarm.welcome(peer);
          return { sizeBytes: swarm?.metainfo.sizeBytes ?? 0 };
        },
        onReady: (peer) => {
          this.#unproven.delete(wire);
          if (swarm === undefined || refusal !== undefined) return wire.goodbye(refusal ?? 'dropped');
          const owner = swarm.accept(socket);
          link = owner.events;
          owner.onReady(wire, peer, false);
        },
        onBitfield: (pieces) => link?.onBitfield(pieces),
        onHaves: (indexes) => link?.onHaves(indexes),
        onSuggest: (index) => link?.onSuggest(index),
        onRequest: (index, offset, length) => link?.onRequest(index, offset, length),
        onCancel: (index, offset, length) => link?.onCancel(index, offset, length),
        onBlock: (index, offset, count, done) => link?.onBlock(index, offset, count, done),
        onReject: (index, offset) => link?.onReject(index, offset),
        onDrain: () => link?.onDrain(),
        onClosed: (gone, error) => {
          this.#unproven.delete(wire);
          if (link !== undefined) return link.onClosed(gone, error);
          this.#parts.warnings.ended(error, 'wire refused', { address: from });
        },
      },
    });
    this.#unproven.add(wire, from);
    return wire;
  }
}
