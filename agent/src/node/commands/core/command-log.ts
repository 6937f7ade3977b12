import type { CommandReport, NodeCommand } from '@sepia/cluster/api/commands';
import { MAX_LEASE_COMMANDS } from '@sepia/cluster/api/lease';

/** Commands that may wait or run at once; more are left with the trackers, which hand them out again. */
const MAX_OPEN = 64;
/** Finished commands that are remembered, so that none is carried out twice. */
const MAX_REMEMBERED = 1_024;

interface Entry {
  report: CommandReport;
  version: number;
  /** Newest version that each tracker has heard. */
  readonly told: Map<string, number>;
}

/** What this node was told to do, how far it is, and which tracker has heard of it. Pure bookkeeping. */
export class CommandLog {
  readonly #entries = new Map<string, Entry>();

  /** Takes commands of an answer; returns those to carry out. A known one is reported again to this tracker. */
  take(trackerId: string, commands: readonly NodeCommand[]): NodeCommand[] {
    const fresh: NodeCommand[] = [];
    let open = this.open;
    for (const command of commands) {
      const known = this.#entries.get(command.id);
      if (known !== undefined) {
        known.told.delete(trackerId);
        continue;
      }
      if (open >= MAX_OPEN) continue;
      open += 1;
      this.#entries.set(command.id, {
        report: { id: command.id, state: 'running' },
        version: 1,
        told: new Map(),
      });
      fresh.push(command);
    }
    this.#tidy();
    return fresh;
  }

  /** Commands that wait or run. */
  get open(): number {
    let open = 0;
    for (const { report } of this.#entries.values()) if (report.state === 'running') open += 1;
    return open;
  }

  note(report: CommandReport): void {
    const entry = this.#entries.get(report.id);
    if (entry === undefined || entry.report.state !== 'running') return;
    entry.report = report;
    entry.version += 1;
  }

  /** What a tracker has not heard yet, finished ones first. `versions` go back with {@link told}. */
  reports(trackerId: string): { reports: CommandReport[]; versions: ReadonlyMap<string, number> } {
    const untold = [...this.#entries.values()].filter(
      ({ told, version }) => (told.get(trackerId) ?? 0) < version,
    );
    const finished = untold.filter(({ report }) => report.state !== 'running');
    const running = untold.filter(({ report }) => report.state === 'running');
    const chosen = [...finished, ...running].slice(0, MAX_LEASE_COMMANDS);
    return {
      reports: chosen.map(({ report }) => report),
      versions: new Map(chosen.map(({ report, version }) => [report.id, version])),
    };
  }

  /** True if the tracker lacks the end of a command. */
  hasNews(trackerId: string): boolean {
    for (const { report, told, version } of this.#entries.values())
      if (report.state !== 'running' && (told.get(trackerId) ?? 0) < version) return true;
    return false;
  }

  told(trackerId: string, versions: ReadonlyMap<string, number>): void {
    for (const [id, version] of versions) this.#entries.get(id)?.told.set(trackerId, version);
  }

  #tidy(): void {
    let over = this.#entries.size - MAX_REMEMBERED;
    for (const [id, { report }] of this.#entries) {
      if (over <= 0) return;
      if (report.state === 'running') continue;
      this.#entries.delete(id);
      over -= 1;
    }
  }
}
