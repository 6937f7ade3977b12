import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AGENT_CONFIG, type Agent, createAgent } from '@sepia/agent';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { type Logger, silentLogger } from '@sepia/base/log';
import { InternalClient } from '@sepia/http/client';
import { createDispatcher } from '@sepia/http/sockets';
import { createOrigin, ORIGIN_CONFIG, type Origin } from '@sepia/origin';
import { createProxy, PROXY_CONFIG } from '@sepia/proxy';
import type { FilePort } from '@sepia/store/files/file-port';
import { createTracker, TRACKER_CONFIG } from '@sepia/tracker';
import '../fail-on-rejection.ts';
import { freePorts } from '../free-ports.ts';
import { type Output, run } from '../testbed.ts';

interface Running {
  readonly adminUrl: string;
  stop(): Promise<void>;
}

const SEPIA = join(import.meta.dirname, '../../../../sepia');
const SETTLED_MS = 5_000;

/** What a test wants; every number may be 0. */
export interface ConstellationOptions {
  readonly origins?: number;
  readonly trackers?: number;
  readonly proxies?: number;
  readonly agents?: number;
  /** Upstreams of the cluster document; default one of mode none called `local`. */
  readonly upstreams?: readonly Readonly<Record<string, unknown>>[];
  /** Further keys of every agent's config. */
  readonly agent?: Readonly<Record<string, unknown>>;
  readonly origin?: Readonly<Record<string, unknown>>;
  readonly tracker?: Readonly<Record<string, unknown>>;
  readonly proxy?: Readonly<Record<string, unknown>>;
  /** Further keys of the listener of every proxy. */
  readonly proxyListener?: Readonly<Record<string, unknown>>;
  /** Further keys of the cluster document. */
  readonly document?: Readonly<Record<string, unknown>>;
  /** Where all members listen; default 127.0.0.1. */
  readonly host?: string;
  /** In the document each member has an address at this host, where nobody listens, before its own. */
  readonly deadHost?: string;
  readonly log?: Logger;
  /** File access of the agents' stores. */
  readonly agentFiles?: FilePort;
  /** Free bytes of the disk of an origin with that data folder; default: the system's. */
  readonly originFreeBytes?: (id: string, dataDir: string) => Promise<number>;
}

/** A whole cluster in this process. Members may be stopped and started again by id. */
export class Constellation {
  readonly dir: string;
  readonly originUrls: string[] = [];
  readonly proxyUrls: string[] = [];
  readonly trackerUrls: string[] = [];
  /** Config of each member, by id. */
  readonly configs = new Map<string, Readonly<Record<string, unknown>>>();
  readonly agents: Agent[] = [];
  readonly #running = new Map<string, Running>();
  readonly #starts = new Map<string, () => Promise<Running>>();

  readonly #host: string;

  private constructor(dir: string, host: string) {
    this.dir = dir;
    this.#host = host;
  }

  /** Starts everything below `dir`. */
  static async start(dir: string, options: ConstellationOptions = {}): Promise<Constellation> {
    const made = new Constellation(dir, options.host ?? '127.0.0.1');
    try {
      await made.#start(options);
      return made;
    } catch (error) {
      await made.stop();
      throw error;
    }
  }

  /** Stops one member as a clean stop would. */
  async stopMember(id: string): Promise<void> {
    const member = this.#running.get(id);
    this.#running.delete(id);
    await member?.stop();
  }

  /**
   * Starts a stopped member again, with its data and address. After an origin all that run count, unless others that
   * they need are away for longer than 5 s.
   */
  async startMember(id: string): Promise<void> {
    const member = await this.#starts.get(id)!();
    this.#running.set(id, member);
    if (!('whenSettled' in member)) return;
    const origins = [...this.#running.values()].filter((one): one is Origin => 'whenSettled' in one);
    const settled = Promise.all(origins.map(async (one) => await one.whenSettled()));
    await Promise.race([settled, delay(SETTLED_MS, undefined, { ref: false })]);
  }

  /** Stops and starts a member. */
  async restartMember(id: string): Promise<void> {
    await this.stopMember(id);
    await this.startMember(id);
  }

  /** Ids of the members that run, in the order of their start. */
  get ids(): string[] {
    return [...this.#running.keys()];
  }

  /** Address of the admin listener of a running member. */
  adminUrl(id: string): string {
    return this.#running.get(id)!.adminUrl;
  }

  get keyFile(): string {
    return join(this.dir, 'cluster-key');
  }

  get documentFile(): string {
    return join(this.dir, 'cluster.yaml');
  }

  /** Data folder of a member. */
  dataOf(id: string): string {
    return join(this.dir, id);
  }

  /** A signed `GET` of a member's `/v1/…`, JSON. */
  async ask<T>(url: string, path: string): Promise<T> {
    const dispatcher = createDispatcher();
    try {
      const clusterKey = Buffer.from(await readFile(this.keyFile, 'utf8'), 'hex');
      const client = new InternalClient({
        dispatcher,
        clusterKey,
        memberId: 'test',
        clock: new MemberClock(),
      });
      return await client.json<T>({
        url,
        to: this.#idAt(url),
        method: 'GET',
        path,
        headersTimeoutMs: 10_000,
      });
    } finally {
      await dispatcher.destroy();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async stop(): Promise<void> {
    const order = ['agent', 'proxy', 'tracker', 'origin'];
    for (const role of order) {
      const ids = [...this.#running.keys()].filter((id) => id.startsWith(role));
      await Promise.all(ids.map((id) => this.stopMember(id)));
    }
  }

  async #start(options: ConstellationOptions): Promise<void> {
    const counts = {
      origin: options.origins ?? 3,
      tracker: options.trackers ?? 2,
      proxy: options.proxies ?? 2,
      agent: options.agents ?? 2,
    };
    const ports = await freePorts(counts.origin * 2 + counts.tracker + counts.proxy + counts.agent);
    const next = (): string => `${this.#host}:${ports.pop()!}`;
    const ways = (listen: string): string[] => {
      const dead = options.deadHost === undefined ? [] : [`${options.deadHost}:${listen.split(':').at(-1)}`];
      return [...dead, listen];
    };
    const urls = (listen: string): string[] => ways(listen).map((way) => `http://${way}`);
    const log = options.log ?? silentLogger();
    const members: unknown[] = [];
    for (const id of idsOf('origin', counts.origin)) {
      const [listen, peer] = [next(), next()];
      members.push({ id, role: 'origin', urls: urls(listen), peers: ways(peer) });
      this.originUrls.push(`http://${listen}`);
      const config = this.#config(id, { listen, 'peer-listen': [peer], ...options.origin });
      const free = options.originFreeBytes;
      const freeBytes = free && (async () => await free(id, this.dataOf(id)));
      this.#starts.set(id, () =>
        createOrigin(ORIGIN_CONFIG.parse(config), { log, ...(freeBytes === undefined ? {} : { freeBytes }) }),
      );
    }
    for (const id of idsOf('tracker', counts.tracker)) {
      const listen = next();
      members.push({ id, role: 'tracker', urls: urls(listen) });
      this.trackerUrls.push(`http://${listen}`);
      const config = this.#config(id, { listen, heartbeat: '1s', ...options.tracker });
      this.#starts.set(id, () => createTracker(TRACKER_CONFIG.parse(config), { log }));
    }
    for (const id of idsOf('proxy', counts.proxy)) {
      const listen = next();
      members.push({ id, role: 'proxy', urls: urls(listen) });
      this.proxyUrls.push(`http://${listen}`);
      const config = this.#config(id, {
        listeners: [{ listen, ...options.proxyListener }],
        ...options.proxy,
      });
      this.#starts.set(id, () => createProxy(PROXY_CONFIG.parse(config), { log }));
    }
    await mkdir(this.dir, { recursive: true });
    await writeFile(this.keyFile, randomBytes(32).toString('hex'), { mode: 0o600 });
    const upstreams = options.upstreams ?? [{ name: 'local', mode: 'none' }];
    await writeFile(
      this.documentFile,
      JSON.stringify({ version: 1, members, upstreams, ...options.document }),
    );
    await Promise.all([...this.#starts.keys()].map((id) => this.startMember(id)));
    for (const id of idsOf('agent', counts.agent)) {
      const config = this.#config(id, {
        listeners: [{ listen: next() }],
        'peer-listen': [`${this.#host}:0`],
        ...options.agent,
      });
      const files = options.agentFiles;
      this.#starts.set(id, () =>
        createAgent(AGENT_CONFIG.parse(config), { log, ...(files === undefined ? {} : { files }) }),
      );
      await this.startMember(id);
      this.agents.push(this.#running.get(id) as Agent);
    }
  }

  /** Runs `sepia` as an operator of this cluster does. */
  async sepia(...args: string[]): Promise<Output> {
    const files = ['--cluster-document', this.documentFile, '--cluster-key-file', this.keyFile];
    return await run(SEPIA, [...args, ...files]);
  }

  /** Id of the member whose main address this is. */
  #idAt(url: string): string {
    for (const urls of [this.originUrls, this.trackerUrls, this.proxyUrls]) {
      const at = urls.indexOf(url);
      if (at >= 0)
        return `${urls === this.originUrls ? 'origin' : urls === this.trackerUrls ? 'tracker' : 'proxy'}-${at + 1}`;
    }
    throw new TypeError(`no member at ${url}`);
  }

  #config(id: string, own: object): Record<string, unknown> {
    const config = {
      id,
      data: this.dataOf(id),
      'cluster-key-file': this.keyFile,
      'cluster-document': this.documentFile,
      'admin-listen': `${this.#host}:0`,
      ...own,
    };
    this.configs.set(id, config);
    return config;
  }
}

function idsOf(role: string, count: number): string[] {
  return Array.from({ length: count }, (_, at) => `${role}-${at + 1}`);
}
