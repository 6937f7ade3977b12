import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { AGENT_CONFIG, type Agent, createAgent } from '@sepia/agent';
import { createOrigin, ORIGIN_CONFIG } from '@sepia/origin';
import { createProxy, PROXY_CONFIG } from '@sepia/proxy';
import { type Logger, silentLogger } from '@sepia/shared/log';
import { createTracker, TRACKER_CONFIG } from '@sepia/tracker';

interface Running {
  stop(): Promise<void>;
}

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
  readonly log?: Logger;
}

/** A whole cluster in this process. Members may be stopped and started again by id. */
export class Constellation {
  readonly dir: string;
  readonly originUrls: string[] = [];
  readonly proxyUrls: string[] = [];
  readonly agents: Agent[] = [];
  readonly #running = new Map<string, Running>();
  readonly #starts = new Map<string, () => Promise<Running>>();

  private constructor(dir: string) {
    this.dir = dir;
  }

  /** Starts everything below `dir`. */
  static async start(dir: string, options: ConstellationOptions = {}): Promise<Constellation> {
    const made = new Constellation(dir);
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

  /** Starts a stopped member again, with its data and address. */
  async startMember(id: string): Promise<void> {
    this.#running.set(id, await this.#starts.get(id)!());
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
    };
    const total = counts.origin * 2 + counts.tracker + counts.proxy + (options.agents ?? 2);
    const ports = await freePorts(total);
    const log = options.log ?? silentLogger();
    const keyFile = join(this.dir, 'cluster-key');
    const documentFile = join(this.dir, 'cluster.yaml');
    const members: unknown[] = [];
    const base = (id: string) => ({
      id,
      data: join(this.dir, id),
      'cluster-key-file': keyFile,
      'cluster-document': documentFile,
      'admin-listen': '127.0.0.1:0',
    });
    const next = (): string => `127.0.0.1:${ports.pop()!}`;
    for (let at = 0; at < counts.origin; at++) {
      const id = `origin-${at + 1}`;
      const [listen, peer] = [next(), next()];
      members.push({ id, role: 'origin', urls: [`http://${listen}`], peers: [peer] });
      this.originUrls.push(`http://${listen}`);
      this.#starts.set(id, () =>
        createOrigin(ORIGIN_CONFIG.parse({ ...base(id), listen, 'peer-listen': [peer], ...options.origin }), {
          log,
        }),
      );
    }
    for (let at = 0; at < counts.tracker; at++) {
      const id = `tracker-${at + 1}`;
      const listen = next();
      members.push({ id, role: 'tracker', urls: [`http://${listen}`] });
      this.#starts.set(id, () =>
        createTracker(TRACKER_CONFIG.parse({ ...base(id), listen, heartbeat: '1s', ...options.tracker }), {
          log,
        }),
      );
    }
    for (let at = 0; at < counts.proxy; at++) {
      const id = `proxy-${at + 1}`;
      const listen = next();
      members.push({ id, role: 'proxy', urls: [`http://${listen}`] });
      this.proxyUrls.push(`http://${listen}`);
      this.#starts.set(id, () =>
        createProxy(PROXY_CONFIG.parse({ ...base(id), listeners: [{ listen }] }), { log }),
      );
    }
    await mkdir(this.dir, { recursive: true });
    await writeFile(keyFile, randomBytes(32).toString('hex'));
    const upstreams = options.upstreams ?? [{ name: 'local', mode: 'none' }];
    await writeFile(documentFile, JSON.stringify({ version: 1, members, upstreams }));
    for (const [id, start] of this.#starts) this.#running.set(id, await start());
    for (let at = 0; at < (options.agents ?? 2); at++) {
      const id = `agent-${at + 1}`;
      const listen = next();
      const start = () =>
        createAgent(
          AGENT_CONFIG.parse({
            ...base(id),
            listeners: [{ listen }],
            'peer-listen': ['127.0.0.1:0'],
            ...options.agent,
          }),
          { log },
        );
      const agent = await start();
      this.#starts.set(id, start);
      this.#running.set(id, agent);
      this.agents.push(agent);
    }
  }
}

/** Ports that were free a moment ago. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
