import { CodedError } from '@sepia/base/errors';

/** The kinds of process, in the order in which they are shown. */
export const ROLES = ['origin', 'tracker', 'proxy', 'agent', 'accelerator', 'snapshotter'] as const;
export type Role = (typeof ROLES)[number];

/** How many of each to run and where their ports begin. */
export interface ClusterShape {
  readonly counts: Readonly<Record<Exclude<Role, 'accelerator' | 'snapshotter'>, number>> & {
    readonly accelerator?: number;
    /** The first so many agents have one. */
    readonly snapshotter?: number;
  };
  /** Base port of the agents; the other roles shift along with it. */
  readonly portsFrom: number;
}

/** One process of a cluster on this machine. */
export interface MemberPlan {
  /** `<role>-<n>`, n from 1; also its id. */
  readonly name: string;
  readonly role: Role;
  readonly port: number;
  /** Swarm port of agents and origins. */
  readonly peerPort: number | undefined;
  readonly adminPort: number;
}

/** Agents listen from this port on, each other role some hundreds further on. */
export const DEFAULT_PORTS_FROM = 17_000;
/** Three origins: one may be lost, and nothing that was acknowledged with it. */
export const DEFAULT_COUNTS: Readonly<Record<Role, number>> = {
  origin: 3,
  tracker: 2,
  proxy: 2,
  agent: 5,
  accelerator: 0,
  snapshotter: 0,
};
const ROLE_OFFSET: Readonly<Record<Role, number>> = {
  agent: 0,
  tracker: 100,
  origin: 200,
  proxy: 300,
  accelerator: 400,
  snapshotter: 500,
};
const HAS_PEER_PORT: Readonly<Record<Role, boolean>> = {
  agent: true,
  tracker: false,
  origin: true,
  proxy: false,
  accelerator: false,
  snapshotter: false,
};
const MAY_BE_NONE: readonly Role[] = ['agent', 'accelerator', 'snapshotter'];
const MAX_MEMBERS = 200;
const MAX_PORT = 65_535;
/** All defaults bind this address. */
export const HOST = '127.0.0.1';
/** The first agent of a cluster of this machine. */
export const DEFAULT_AGENT = `http://${HOST}:${DEFAULT_PORTS_FROM}`;

/**
 * Names and ports of every member: role base + 10·i, from i = 10 on base + 1000 + 10·(i − 10); peers + 1, admin + 2.
 * @throws {CodedError} `CONFIG_INVALID` when counts or ports are impossible, `START_FAILED` when two members share a port
 */
export function planMembers(shape: ClusterShape): MemberPlan[] {
  const plans = ROLES.flatMap((role) => {
    const count = shape.counts[role] ?? 0;
    const least = MAY_BE_NONE.includes(role) ? 0 : 1;
    if (!Number.isSafeInteger(count) || count < least || count > MAX_MEMBERS) {
      throw new CodedError('CONFIG_INVALID', {
        message: `--${role === 'proxy' ? 'proxies' : `${role}s`}: ${count} is not possible; from ${least} to ${MAX_MEMBERS}`,
      });
    }
    return Array.from({ length: count }, (_, index) => planMember(role, index, shape.portsFrom));
  });
  const owners = new Map<number, string>();
  for (const plan of plans) {
    for (const { port } of portsOf(plan)) {
      if (port < 1 || port > MAX_PORT)
        throw new CodedError('CONFIG_INVALID', {
          message: `--ports-from: ${plan.name} would get port ${port}; take a base between 1 and ${MAX_PORT - 2000}`,
        });
      const other = owners.get(port);
      if (other !== undefined)
        throw new CodedError('START_FAILED', {
          message: `port ${port} would belong to ${other} and ${plan.name}; run fewer of them`,
        });
      owners.set(port, plan.name);
    }
  }
  return plans;
}

/** Every port of a member, with what it is for. */
export function portsOf(plan: MemberPlan): { port: number; use: string }[] {
  const main = { port: plan.port, use: plan.role === 'agent' || plan.role === 'proxy' ? 'registry' : 'main' };
  const peer = plan.peerPort === undefined ? [] : [{ port: plan.peerPort, use: 'peer' }];
  return [main, ...peer, { port: plan.adminPort, use: 'admin' }];
}

function planMember(role: Role, index: number, portsFrom: number): MemberPlan {
  const base = portsFrom + ROLE_OFFSET[role];
  const port = index < 10 ? base + 10 * index : base + 1_000 + 10 * (index - 10);
  return {
    name: `${role}-${index + 1}`,
    role,
    port,
    peerPort: HAS_PEER_PORT[role] ? port + 1 : undefined,
    adminPort: port + 2,
  };
}
