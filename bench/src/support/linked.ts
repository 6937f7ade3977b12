import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { StopStack } from '@sepia/base/lifecycle';
import { quietly, run, testbed } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import { stringify } from 'yaml';
import { endMember, type Role, spawnMember } from './member.ts';
import type { BenchRegistry } from './registry.ts';

const PREFIX = 'sb';
const READY_MS = 180_000;
const PORT: Readonly<Record<Role, number>> = {
  agent: 17_000,
  tracker: 17_100,
  origin: 17_200,
  proxy: 17_300,
};

export interface LinkedShape {
  readonly agents: number;
  /** Each agent's link, each way. */
  readonly agentMbit: number;
  /** Link of the host with origin, tracker and proxy. */
  readonly hubMbit: number;
  /** The registry on a host of its own behind this link; left out: on the hub. */
  readonly registryMbit?: number;
}

export interface LinkedMember {
  readonly role: Role;
  readonly namespace: string;
  readonly address: string;
  /** As seen inside its own namespace. */
  readonly url: string;
  readonly pid: number;
}

/**
 * Members in network namespaces with limited links: origin, tracker and proxy on host 0, one agent on each of the hosts 1…N,
 * the registry on host 0 or on host N + 1. Needs root and the test bed.
 */
export class LinkedCluster {
  registry: BenchRegistry;
  readonly members: LinkedMember[] = [];
  readonly #dir: string;
  readonly #stops: StopStack;

  private constructor(stops: StopStack, dir: string, registry: BenchRegistry) {
    this.#stops = stops;
    this.#dir = dir;
    this.registry = registry;
  }

  /** Makes the hosts, moves `registry` into them and starts every member; all of it ends with `stops`. */
  static async start(
    stops: StopStack,
    dir: string,
    registry: BenchRegistry,
    shape: LinkedShape,
  ): Promise<LinkedCluster> {
    process.env['PREFIX'] = PREFIX;
    const cluster = new LinkedCluster(stops, dir, registry);
    const apart = shape.registryMbit !== undefined;
    const hosts = 1 + shape.agents + (apart ? 1 : 0);
    await testbed('netns.sh', [
      'up',
      String(hosts),
      '--rate',
      String(shape.agentMbit),
      '--origin-rate',
      String(shape.hubMbit),
    ]);
    stops.push('namespaces', () => quietly('netns.sh', ['down']));
    const registryHost = apart ? shape.agents + 1 : 0;
    if (apart) await cluster.rate(registryHost, shape.registryMbit);
    cluster.registry = await registry.moveTo(`${PREFIX}${registryHost}`, await addressOf(registryHost));
    stops.push('moved registry', () => cluster.registry.stop());
    await cluster.#startMembers(shape.agents);
    return cluster;
  }

  get agents(): LinkedMember[] {
    return this.members.filter((member) => member.role === 'agent');
  }

  get origin(): LinkedMember {
    return this.members.find((member) => member.role === 'origin')!;
  }

  get proxy(): LinkedMember {
    return this.members.find((member) => member.role === 'proxy')!;
  }

  /** Changes a host's link, each way. */
  async rate(host: number, mbit: number): Promise<void> {
    await testbed('netns.sh', ['rate', String(host), String(mbit)]);
  }

  /** Bytes that each host sent and got at its own link so far, headers of packets counted. */
  async linkBytes(): Promise<{ up: number; down: number }[]> {
    const { stdout } = await testbed('netns.sh', ['stats']);
    return [...stdout.matchAll(/^host \d+ \S+ up (\d+) down (\d+)$/gm)].map((found) => ({
      up: Number(found[1]),
      down: Number(found[2]),
    }));
  }

  async #startMembers(agents: number): Promise<void> {
    mkdirSync(this.#dir, { recursive: true });
    writeFileSync(join(this.#dir, 'cluster-key'), `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
    const hub = await addressOf(0);
    const member = (role: Role): object => ({ id: `${role}-1`, role, urls: [`http://${hub}:${PORT[role]}`] });
    const document = {
      version: 1,
      members: [
        { ...member('origin'), peers: [`${hub}:${PORT.origin + 1}`] },
        member('tracker'),
        member('proxy'),
      ],
      upstreams: [{ name: 'bench', url: this.registry.url, mode: 'pull-through' }],
    };
    writeFileSync(join(this.#dir, 'cluster-document.yaml'), stringify(document));
    for (const role of ['origin', 'tracker', 'proxy'] as const) await this.#start(role, `${role}-1`, 0);
    for (let host = 1; host <= agents; host++) await this.#start('agent', `agent-${host}`, host);
    await Promise.all(this.members.map((one) => ready(one)));
  }

  async #start(role: Role, id: string, host: number): Promise<void> {
    const address = await addressOf(host);
    const own = role === 'agent' ? '127.0.0.1' : address;
    const listen = `${own}:${PORT[role]}`;
    const config = {
      id,
      data: join('members', id),
      'cluster-key-file': 'cluster-key',
      'cluster-document': 'cluster-document.yaml',
      'admin-listen': `127.0.0.1:${PORT[role] + 2}`,
      log: { level: process.env['SEPIA_LOG_LEVEL'] ?? 'warn' },
      ...(role === 'agent' || role === 'proxy' ? { listeners: [{ listen }] } : { listen }),
      ...(role === 'agent' || role === 'origin' ? { 'peer-listen': [`${address}:${PORT[role] + 1}`] } : {}),
    };
    const file = join(this.#dir, `${id}.yaml`);
    writeFileSync(file, stringify(config));
    const namespace = `${PREFIX}${host}`;
    const child = spawnMember(role, { config: file, log: join(this.#dir, `${id}.log`), namespace });
    this.#stops.push(id, () => endMember(child));
    this.members.push({ role, namespace, address, url: `http://${listen}`, pid: child.pid ?? -1 });
  }
}

async function addressOf(host: number): Promise<string> {
  return (await testbed('netns.sh', ['addr', String(host)])).stdout.trim();
}

async function ready({ role, namespace }: LinkedMember): Promise<void> {
  const url = `http://127.0.0.1:${PORT[role] + 2}/readyz`;
  const args = [`--net=/run/netns/${namespace}`, 'curl', '-sf', '-m', '2', '-o', '/dev/null', url];
  const isReady = async (): Promise<boolean> => (await run('nsenter', args)).code === 0;
  await until(isReady, `${role} in ${namespace} is ready`, READY_MS);
}
