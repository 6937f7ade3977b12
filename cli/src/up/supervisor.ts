import { existsSync, rmSync } from 'node:fs';
import { backoffMs } from '@sepia/base/async/backoff';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import { createDispatcher, type Dispatcher } from '@sepia/http/sockets';
import { lockFolder } from '@sepia/store/data-folder';
import { makeFolders } from '@sepia/store/make-folders';
import {
  LOCAL_CONNECT_MS,
  READY_MS,
  READY_POLL_MS,
  RESTART_FIRST_MS,
  RESTART_MAX_MS,
  STOP_GRACE_MS,
} from '../deadlines.ts';
import type { ClusterFile, ClusterFileMember } from './cluster-file.ts';
import { type ClusterPaths, clusterPaths, replaceFile, type UpPolicies, writeClusterFiles } from './files.ts';
import { isThere } from './is-there.ts';
import { rotateLogs } from './log-rotation.ts';
import { type Exit, MemberProcess, mainOfRole } from './member-process.ts';
import { overridesFile } from './overrides.ts';
import { type ClusterShape, HOST, type MemberPlan, planMembers, type Role } from './plan.ts';
import { demandFreePorts, takenPort } from './ports.ts';
import { isReady } from './readiness.ts';
import type { UpstreamOption } from './upstream-option.ts';

export interface SupervisorOptions {
  /** Absolute data folder. */
  readonly root: string;
  readonly shape: ClusterShape;
  /** The first is the default. */
  readonly upstreams: readonly UpstreamOption[];
  /** Index every image, so that the next pull of it is lazy. */
  readonly isLazy?: boolean;
  /** Pushed images are converted, and webhooks are taken. */
  readonly accelerates?: boolean;
  /** Start a member again that died. */
  readonly restart: boolean;
  /** Proxies take preheats without credentials from whoever reaches them. */
  readonly preheat?: boolean;
  readonly policies?: UpPolicies;
  /** `embedded` or the address of a PostgreSQL; left out: as at the last start. */
  readonly records?: string;
  /** Origins count with the records that are here; at this start, not where one is started again. */
  readonly acceptLoss?: boolean;
  /** Until every member must be ready, in ms. */
  readonly readyTimeoutMs?: number;
}

/** What happens to members, for people who watch. */
export type MemberEvent =
  /** Members of a run that was killed have its ports, and end by themselves. */
  | { readonly type: 'waiting'; readonly atMs: number }
  | { readonly type: 'starting' | 'ready' | 'stopped'; readonly name: string; readonly atMs: number }
  /** It runs again, and `cluster.json` does not say so. */
  | { readonly type: 'unpublished'; readonly name: string; readonly atMs: number; readonly why: string }
  | {
      readonly type: 'died';
      readonly name: string;
      readonly atMs: number;
      readonly why: string;
      readonly restartInMs: number | undefined;
    };

interface SupervisorDeps {
  readonly onEvent: (event: MemberEvent) => void;
  readonly mainOf?: (role: Role) => string;
  /** A clock that never goes back. */
  readonly nowMs?: () => number;
}

/** Members that others still need while they drain go last. */
const STOP_ORDER: readonly (readonly Role[])[] = [
  ['accelerator', 'snapshotter'],
  ['agent', 'proxy'],
  ['tracker'],
  ['origin'],
];

interface Slot {
  readonly plan: MemberPlan;
  process: MemberProcess | undefined;
  deaths: number;
}

/** Runs every member of a cluster as a process of its own, and keeps `cluster.json` true. */
export class Supervisor {
  readonly paths: ClusterPaths;
  readonly members: readonly MemberPlan[];
  readonly #options: SupervisorOptions;
  readonly #deps: Required<SupervisorDeps>;
  readonly #slots: readonly Slot[];
  readonly #dispatcher: Dispatcher = createDispatcher({ connections: 2, connectTimeoutMs: LOCAL_CONNECT_MS });
  readonly #abort = new AbortController();
  readonly #background = new Set<Promise<void>>();
  #cluster: ClusterFile | undefined;
  #endRotation = (): void => undefined;
  #isUp = false;
  #wrote = false;
  #lock: Awaited<ReturnType<typeof lockFolder>> | undefined;
  #stopping: Promise<void> | undefined;

  /** @throws {CodedError} `CONFIG_INVALID`, `START_FAILED` when the shape is impossible */
  constructor(deps: SupervisorDeps, options: SupervisorOptions) {
    this.#deps = { mainOf: mainOfRole, nowMs: () => performance.now(), ...deps };
    this.#options = options;
    this.paths = clusterPaths(options.root);
    this.members = planMembers(options.shape);
    this.#slots = this.members.map((plan) => ({ plan, process: undefined, deaths: 0 }));
  }

  /**
   * Takes the data folder and finds the ports free. A folder that another run has is refused before anything is written.
   * @throws {CodedError} `CONFIG_INVALID`, `START_FAILED`; what was taken is given back by {@link stop}
   */
  async claim(): Promise<void> {
    this.#abort.signal.throwIfAborted();
    await makeFolders(this.paths.root, '--data');
    // Before anything is written: another cluster may run here.
    this.#lock = await lockFolder(this.paths.root);
    const isLeft = existsSync(this.paths.clusterJson);
    rmSync(this.paths.clusterJson, { force: true });
    this.#wrote = true;
    await this.#untilPortsAreFree(isLeft);
  }

  /**
   * Starts all members and waits until each is ready; then `cluster.json` is there. Claims first where nobody did.
   * @throws {CodedError} `START_FAILED` with one line that names the member; what was started is stopped by {@link stop}
   */
  async start(): Promise<ClusterFile> {
    if (this.#lock === undefined) await this.claim();
    this.#abort.signal.throwIfAborted();
    const { upstreams, preheat = false, isLazy = false, accelerates = false } = this.#options;
    const { policies = {}, records } = this.#options;
    const of = {
      policies,
      ...(records === undefined ? {} : { records }),
    };
    writeClusterFiles(this.paths, this.members, upstreams, { preheat, isLazy, accelerates, ...of });
    this.#endRotation = rotateLogs(this.members.map(({ name }) => this.paths.log(name)));
    const timeoutMs = this.#options.readyTimeoutMs ?? READY_MS;
    await Promise.all(this.#slots.map((slot) => this.#startFirst(slot, timeoutMs)));
    this.#abort.signal.throwIfAborted();
    this.#isUp = true;
    for (const slot of this.#slots) this.#watch(slot);
    return this.#publish();
  }

  /** The cluster as it was last published; undefined before it was ready. */
  get cluster(): ClusterFile | undefined {
    return this.#cluster;
  }

  /** Drains and stops every member; idempotent. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#abort.abort(new CodedError('DRAINING', { message: 'the cluster is stopping' }));
    if (this.#wrote) rmSync(this.paths.clusterJson, { force: true });
    for (const roles of STOP_ORDER) {
      const slots = this.#slots.filter(
        (slot) => roles.includes(slot.plan.role) && slot.process !== undefined,
      );
      await Promise.all(
        slots.map(async (slot) => {
          await slot.process?.stop(STOP_GRACE_MS);
          this.#tell('stopped', slot);
        }),
      );
    }
    this.#endRotation();
    await Promise.allSettled(this.#background);
    await this.#dispatcher.close();
    await this.#lock?.release();
  }

  /** The members of a run that was killed end by themselves, drained; its `cluster.json` was left (`isLeft`). */
  async #untilPortsAreFree(isLeft: boolean): Promise<void> {
    const untilMs = this.#deps.nowMs() + (isLeft ? STOP_GRACE_MS : 0);
    for (let isTold = false; this.#deps.nowMs() < untilMs; isTold = true) {
      if ((await takenPort(this.members)) === undefined) break;
      if (!isTold) this.#deps.onEvent({ type: 'waiting', atMs: this.#deps.nowMs() });
      await delay(READY_POLL_MS, this.#abort.signal);
    }
    await demandFreePorts(this.members);
  }

  async #startFirst(slot: Slot, timeoutMs: number): Promise<void> {
    this.#abort.signal.throwIfAborted();
    this.#tell('starting', slot);
    const acceptsLoss = this.#options.acceptLoss === true && slot.plan.role === 'origin';
    const member = this.#spawn(slot, acceptsLoss ? ['--accept-loss'] : []);
    const outcome = await this.#untilReady(slot.plan, member, timeoutMs);
    if (outcome === 'ready') return this.#tell('ready', slot);
    const why =
      outcome === 'late'
        ? `is not ready after ${timeoutMs / 1000} s; see ${this.paths.log(slot.plan.name)}`
        : `${member.why(outcome)}${this.#ownKeys(slot.plan.role)}`;
    throw new CodedError('START_FAILED', { message: `${slot.plan.name}: ${why}` });
  }

  /** Members name the config that they read, which is written anew at each start. */
  #ownKeys(role: Role): string {
    const file = overridesFile(this.paths.root, role);
    return isThere(file) ? `; its config has keys of ${file}` : '';
  }

  #spawn(slot: Slot, flags: readonly string[] = []): MemberProcess {
    const { name } = slot.plan;
    const member = new MemberProcess({
      plan: slot.plan,
      config: this.paths.config(name),
      log: this.paths.log(name),
      mainOf: this.#deps.mainOf,
      flags,
    });
    slot.process = member;
    return member;
  }

  async #untilReady(
    plan: MemberPlan,
    member: MemberProcess,
    timeoutMs: number,
  ): Promise<'ready' | 'late' | Exit> {
    const deadlineMs = this.#deps.nowMs() + timeoutMs;
    while (this.#deps.nowMs() < deadlineMs) {
      if (member.isGone) return await member.exited;
      this.#abort.signal.throwIfAborted();
      if (await isReady(`http://${HOST}:${plan.adminPort}`, this.#dispatcher)) return 'ready';
      await delay(READY_POLL_MS, this.#abort.signal);
    }
    return 'late';
  }

  /** Reports the death of a running member, and starts it again if that is wanted. */
  #watch(slot: Slot): void {
    const member = slot.process!;
    const task = (async () => {
      const exit = await member.exited;
      if (!this.#abort.signal.aborted) await this.#died(slot, member.why(exit));
    })().catch((error: unknown) => {
      if (this.#abort.signal.aborted) return;
      const { name } = slot.plan;
      const death = { name, why: cannotStart(error), restartInMs: undefined };
      this.#deps.onEvent({ type: 'died', atMs: this.#deps.nowMs(), ...death });
    });
    this.#background.add(task);
    void task.finally(() => this.#background.delete(task));
  }

  async #died(slot: Slot, why: string): Promise<void> {
    slot.deaths += 1;
    const restartInMs = this.#options.restart
      ? backoffMs(slot.deaths, RESTART_FIRST_MS, RESTART_MAX_MS)
      : undefined;
    this.#tellDeath(slot, why, restartInMs);
    if (restartInMs === undefined) return;
    await delay(restartInMs, this.#abort.signal);
    try {
      this.#spawn(slot);
    } catch (error) {
      throwIfBug(error);
      // For want of a file or a descriptor, now.
      return await this.#died(slot, cannotStart(error));
    }
    await this.#restarted(slot);
  }

  async #restarted(slot: Slot): Promise<void> {
    const member = slot.process!;
    this.#tell('starting', slot);
    const outcome = await this.#untilReady(slot.plan, member, this.#options.readyTimeoutMs ?? READY_MS);
    if (outcome === 'ready') {
      slot.deaths = 0;
      this.#tell('ready', slot);
      this.#publishAgain(slot);
    } else if (outcome === 'late') {
      await member.stop(STOP_GRACE_MS);
    }
    this.#watch(slot);
  }

  /** Where that fails, as on a full disk, the file names a process that is gone; the members run, and are looked after. */
  #publishAgain({ plan: { name } }: Slot): void {
    try {
      this.#publish();
    } catch (error) {
      throwIfBug(error);
      const why = `${this.paths.clusterJson} could not be written: ${(error as Error).message}`;
      this.#deps.onEvent({ type: 'unpublished', name, atMs: this.#deps.nowMs(), why });
    }
  }

  #publish(): ClusterFile {
    const of = (role: Role): ClusterFileMember[] =>
      this.#slots.filter((slot) => slot.plan.role === role).map((slot) => this.#fileMember(slot));
    const cluster: ClusterFile = {
      version: 1,
      upstreams: this.#options.upstreams.map(({ name, url, hosts, mode }) => ({
        name,
        url: url ?? null,
        hosts: [...hosts],
        mode,
      })),
      proxies: of('proxy'),
      trackers: of('tracker'),
      origins: of('origin'),
      agents: of('agent'),
      accelerators: of('accelerator'),
      snapshotters: of('snapshotter'),
    };
    this.#cluster = cluster;
    if (this.#isUp && !this.#abort.signal.aborted)
      replaceFile(this.paths.clusterJson, `${JSON.stringify(cluster, null, 2)}\n`);
    return cluster;
  }

  #fileMember({ plan, process }: Slot): ClusterFileMember {
    return {
      name: plan.name,
      url: `http://${HOST}:${plan.port}`,
      adminUrl: `http://${HOST}:${plan.adminPort}`,
      peers: plan.peerPort === undefined ? [] : [`${HOST}:${plan.peerPort}`],
      pid: process?.pid ?? -1,
      log: this.paths.log(plan.name),
      config: this.paths.config(plan.name),
    };
  }

  #tell(type: 'starting' | 'ready' | 'stopped', slot: Slot): void {
    this.#deps.onEvent({ type, name: slot.plan.name, atMs: this.#deps.nowMs() });
  }

  #tellDeath({ plan: { name } }: Slot, why: string, restartInMs: number | undefined): void {
    this.#deps.onEvent({ type: 'died', name, atMs: this.#deps.nowMs(), why, restartInMs });
  }
}

function cannotStart(error: unknown): string {
  return `cannot be started again: ${(error as Error)?.message ?? String(error)}`;
}
