import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { delay } from '@sepia/base/lifecycle';
import type { PostgresServer } from '@sepia/test-support/postgres';
import { copyFolder, damage, emptyDisk, fillDisk, isSound, rot, wipe } from './disks.ts';
import type { History } from './history.ts';
import type { Members } from './members.ts';
import { DESTRUCTIVE, type Round } from './schedule.ts';
import { type Read, readAnswered, readEverything, type Traffic, textOf } from './traffic.ts';

/** How long copies may be owed before the next disk is touched, and what was acknowledged may want an answer. */
const OWED_MS = 180_000;
const ANSWER_MS = 180_000;
/** Nothing is owed when that was so this often in a row. */
const QUIET_POLLS = 4;
const POLL_MS = 300;
const ROTTED = 3;
const SAMPLE = 12;

interface RunParts {
  readonly members: Members;
  readonly traffic: Traffic;
  readonly history: History;
  /** Where records rest, if not on the origins. */
  readonly database: Pick<PostgresServer, 'kill' | 'resume'> | undefined;
  /** Where copies of folders and clocks are kept. */
  readonly scratch: string;
  /** Copies owed are told by metrics; without them no two disks are touched in a run. */
  readonly log: (text: string) => void;
}

/** Plays rounds on a cluster. */
export class Rounds {
  readonly #parts: RunParts;
  /** Stored blobs that were rotted and not mended yet. */
  #rotten: string[] = [];
  #rottenOf = '';
  #isOwed = false;

  constructor(parts: RunParts) {
    this.#parts = parts;
  }

  /** One round: clients at work, a fault in the middle, all made good again, and a look at what was acknowledged. */
  async play(round: Round, index: number): Promise<void> {
    const { members, traffic, log } = this.#parts;
    const { operations } = round;
    let { fault } = round;
    if (DESTRUCTIVE.has(fault.name) && this.#isOwed) await this.nothingOwed();
    // Copies that nobody has read since they rotted are lost copies of this origin: it is the one whose disk may go.
    if (DESTRUCTIVE.has(fault.name) && this.#rotten.length > 0) fault = { ...fault, victim: this.#rottenOf };
    const startedMs = performance.now();
    const work = operations.map(async (operation) => {
      await delay(operation.atMs);
      await traffic.run(operation);
    });
    const [heal] = await Promise.all([this.#strike(fault), ...work]);
    await heal();
    for (const { name } of members.all) await members.ready(name);
    await this.#sample(fault.seed);
    if (DESTRUCTIVE.has(fault.name)) this.#isOwed = true;
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    log(
      `round ${index + 1}: ${fault.name}${fault.name === 'none' ? '' : ` ${fault.victim}`}, ${seconds} s; ${textOf(traffic.findings)}`,
    );
  }

  /** Everything that was acknowledged, once nothing is owed. */
  async finish(): Promise<void> {
    const { members, traffic, history } = this.#parts;
    if (this.#isOwed) await this.nothingOwed();
    const readers = [...members.of('proxy'), ...members.of('agent')].map(({ name }) => name);
    await readEverything(traffic, history, readers, (read) => this.#again(read));
  }

  /** Waits until no origin owes a copy. @throws when that takes longer than `OWED_MS` */
  async nothingOwed(): Promise<void> {
    const { members } = this.#parts;
    const deadline = performance.now() + OWED_MS;
    for (let quiet = 0; quiet < QUIET_POLLS; ) {
      const owed = await this.#owed();
      quiet = owed === '' ? quiet + 1 : 0;
      if (performance.now() > deadline)
        throw new Error(`copies are still owed after ${OWED_MS / 1000} s: ${owed}`);
      await delay(POLL_MS);
      this.#rotten = this.#rotten.filter((file) => !isSound(file));
    }
    this.#isOwed = false;
    for (const { name } of members.of('origin')) await members.ready(name);
  }

  async #owed(): Promise<string> {
    const { members } = this.#parts;
    const found: string[] = [];
    for (const { name } of members.of('origin')) {
      const metrics = await members.metrics(name, 'sepia_origin_');
      if (metrics === undefined) return `${name} does not answer`;
      for (const [key, value] of metrics)
        if (key.startsWith('sepia_origin_owed_') && value > 0) found.push(`${name} ${key} ${value}`);
      if (metrics.get('sepia_origin_settled') === 0) found.push(`${name} does not count yet`);
    }
    return found.join(', ');
  }

  /** Does the fault; what comes back makes it good again. */
  async #strike(fault: Round['fault']): Promise<() => Promise<void>> {
    const { members, scratch } = this.#parts;
    const { name, victim, seed } = fault;
    await delay(fault.atMs);
    const folder = members.get(victim).dataDir;
    const again = async (): Promise<void> => members.begin(victim);
    switch (name) {
      case 'none':
        return async () => undefined;
      case 'kill':
        members.kill(victim);
        return again;
      case 'kill-all-origins':
        return this.#killOrigins();
      case 'kill-database':
        await this.#database(fault.haltMs);
        return async () => undefined;
      case 'kill-database-and-origins': {
        const away = this.#database(fault.haltMs);
        const heal = this.#killOrigins();
        await away;
        return heal;
      }
      case 'halt':
        members.kill(victim, 'SIGSTOP');
        await delay(fault.haltMs);
        members.kill(victim, 'SIGCONT');
        return async () => undefined;
      case 'disk-full':
        fillDisk(folder);
        return async () => void emptyDisk(folder);
      case 'rot':
        this.#rotten.push(...rot(folder, seed, ROTTED, new Set(this.#parts.history.content)));
        this.#rottenOf = victim;
        return async () => undefined;
      case 'clock-jump':
        return await this.#jump(victim, fault.jumpS);
      case 'disk-lost':
        members.kill(victim);
        await members.gone(victim);
        wipe(folder);
        return again;
      case 'disk-damaged':
        members.kill(victim);
        await members.gone(victim);
        damage(folder, seed);
        return again;
      case 'disk-set-back':
        return await this.#setBack(victim, join(scratch, `copy-${seed}`));
    }
  }

  #killOrigins(): () => Promise<void> {
    const { members } = this.#parts;
    const origins = members.of('origin');
    for (const one of origins) members.kill(one.name);
    return async () => {
      for (const one of origins) members.begin(one.name);
    };
  }

  /** Kills the database as a lost power would; it comes back while clients are at work. */
  async #database(awayMs: number): Promise<void> {
    const { database } = this.#parts;
    if (database === undefined) throw new TypeError('this cluster has no database');
    await database.kill();
    await delay(awayMs);
    await database.resume();
  }

  async #setBack(victim: string, copy: string): Promise<() => Promise<void>> {
    const { members } = this.#parts;
    const folder = members.get(victim).dataDir;
    members.kill(victim);
    await members.gone(victim);
    copyFolder(folder, copy);
    members.begin(victim);
    return async () => {
      members.kill(victim);
      await members.gone(victim);
      wipe(folder);
      copyFolder(copy, folder);
      wipe(copy);
      members.begin(victim);
    };
  }

  /** Comes back with a wrong clock, which is set right while it runs. */
  async #jump(victim: string, offsetS: number): Promise<() => Promise<void>> {
    const { members, scratch } = this.#parts;
    const clock = join(scratch, `clock-${victim}`);
    writeFileSync(clock, '+0s\n');
    members.kill(victim);
    await members.gone(victim);
    members.setClock(clock, offsetS);
    members.begin(victim, clock);
    return async () => {
      await members.answers(victim);
      members.setClock(clock, 0);
    };
  }

  /** Some of what was acknowledged, by every way. */
  async #sample(seed: number): Promise<void> {
    const { members, traffic, history } = this.#parts;
    const { content, tags } = history;
    const readers = [...members.of('proxy'), ...members.of('agent')].map(({ name }) => name);
    const reads: Read[] = tags.map((tag, index) => {
      const at = readers[(seed + index) % readers.length]!;
      return { what: `tag ${tag}`, at, read: () => traffic.readTag(at, tag) };
    });
    for (let index = 0; index < Math.min(SAMPLE, content.length); index++) {
      const newest = content.length - 1 - index;
      const digest = content[index % 2 === 0 ? newest : (seed + index * 7_919) % content.length]!;
      const at = readers[(seed + index) % readers.length]!;
      reads.push({ what: digest, at, read: () => traffic.readContent(at, digest) });
    }
    await readAnswered(traffic, reads, (read) => this.#again(read));
  }

  async #again(read: () => Promise<boolean>): Promise<boolean> {
    const deadline = performance.now() + ANSWER_MS;
    while (!(await read())) {
      if (performance.now() > deadline) return false;
      await delay(250);
    }
    return true;
  }
}
