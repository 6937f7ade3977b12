import { randomBytes, randomInt } from 'node:crypto';
import { join } from 'node:path';
import { CodedError, isCoded, laterFormat } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import type { Member } from '@sepia/cluster/document';
import { joinsBy, type Membership } from '@sepia/cluster/membership';
import type { Shard } from '@sepia/cluster/ring';
import { MEMBERSHIP_SCHEMA } from '@sepia/cluster/ring-messages';
import type { FirstStart } from '@sepia/records/core/first-start';
import {
  begin,
  countsFor,
  type Grant,
  grant,
  leave,
  type Standing,
  takeOver,
  ungenerated,
} from '@sepia/records/core/standing';
import { senderHeader } from '@sepia/records/sender-header';
import type { DataFolder } from '@sepia/store/data-folder';
import { diskFiles } from '@sepia/store/files/disk-files';
import { readWhole, replaceWhole } from '@sepia/store/files/file-port';

const FILE = 'standing';
/** In the database: says that it belongs to the file beside it. */
const MARKER_KEY = 'm1\0standing';
const ENCODING = new TextEncoder();

/** What the file holds. `DIR/v1/standing` outlives the database. */
interface Stored {
  readonly v: 1;
  readonly standing: Standing;
  readonly firstStart: FirstStart;
  readonly marker: string;
  /** Written by a clean stop: others hold the token, the records had this digest. */
  readonly closing?: Closing;
  /** Clean stops of others that they told. */
  readonly closings: Readonly<Record<string, Pick<Closing, 'generation' | 'token'>>>;
  /** As the origins agreed last, as far as it is known here; its epoch is that of the standing. */
  readonly membership?: Membership;
  /** Origins of the cluster document when it was read last. */
  readonly file?: readonly Member[];
}

/**
 * Noted last in an orderly stop: a digest of the records, and the token that all others noted. Where both are
 * untouched at the next start, nothing is lost.
 */
export interface Closing {
  readonly generation: number;
  readonly token: string;
  readonly digest: string;
}

interface OwnStandingDeps {
  readonly folder: DataFolder;
  /** The database is a new, empty one. */
  readonly databaseLost: boolean;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/**
 * What this origin durably is to the others: its generation, whether it counts, what it knows of theirs. A start is a
 * new generation unless it was confirmed; see ADR 0023. Changes are durable when they resolve, one after another.
 */
export class OwnStanding {
  readonly #deps: OwnStandingDeps;
  #stored: Stored;
  #header: string;
  #saving: Promise<void> = Promise.resolve();
  readonly #listeners = new Set<() => void>();

  private constructor(deps: OwnStandingDeps, stored: Stored) {
    this.#deps = deps;
    this.#stored = stored;
    this.#header = senderHeader(stored.standing);
  }

  /** Reads the standing of a folder, or makes its first one. */
  static async open(deps: OwnStandingDeps): Promise<OwnStanding> {
    const { folder, databaseLost, log } = deps;
    const found = await read(folder.dir);
    const marker = await folder.db.get(MARKER_KEY);
    // A folder without records is new, whatever else is in it: all others must say so too, or hand over.
    const isEmpty = marker === undefined && (await isDatabaseEmpty(folder.db));
    const isFirst = found === undefined && isEmpty;
    const isUpgrade = found === undefined && !isEmpty && marker === undefined && !databaseLost;
    const known = found === 'damaged' ? undefined : found;
    if (known !== undefined && !databaseLost && marker === known.marker)
      return new OwnStanding(deps, unsettled(known));
    const base = known?.standing ?? ungenerated(folder.id);
    const own = new OwnStanding(deps, {
      v: 1,
      standing: isUpgrade ? base : begin(base, newGeneration(deps, base.generation), false),
      firstStart: isFirst ? 'new' : (known?.firstStart ?? 'member'),
      marker: randomBytes(8).toString('hex'),
      closings: known?.closings ?? {},
      ...(known === undefined ? {} : agreed(known)),
    });
    if (!isFirst && !isUpgrade)
      log.error('records of this origin are damaged or lost; the others hand them over again');
    await folder.db.put(MARKER_KEY, own.#stored.marker);
    await own.#save(own.#stored);
    return own;
  }

  get standing(): Standing {
    return this.#stored.standing;
  }

  /** The membership that is known to be agreed; undefined where this origin knows the document alone. */
  get membership(): Membership | undefined {
    return this.#stored.membership;
  }

  /** Origins of the cluster document as it was read before. */
  get file(): readonly Member[] | undefined {
    return this.#stored.file;
  }

  get firstStart(): FirstStart {
    return this.#stored.firstStart;
  }

  /** What a clean stop left, if the records still have that digest. */
  closing(digest: string): Closing | undefined {
    const { closing, standing } = this.#stored;
    if (this.#deps.folder.lastStop !== 'clean' || closing === undefined) return undefined;
    return closing.digest === digest && closing.generation === standing.generation ? closing : undefined;
  }

  /** `Sepia-Standing` of an answer: read it after what is answered is durable. */
  get header(): string {
    return this.#header;
  }

  get sender(): { readonly id: string; readonly generation: number; readonly known: Standing['known'] } {
    const { id, generation, known } = this.#stored.standing;
    return { id, generation, known };
  }

  /** @throws `RECORDS_PENDING` if what this origin says of the shard does not count yet */
  require(shard: Shard): void {
    if (!this.counts(shard))
      throw new CodedError('RECORDS_PENDING', { detail: { origin: this.standing.id } });
  }

  /** For what belongs to no shard alone. @throws `RECORDS_PENDING` */
  requireAll(): void {
    if (!this.isSettled) throw new CodedError('RECORDS_PENDING', { detail: { origin: this.standing.id } });
  }

  get isSettled(): boolean {
    return this.firstStart === 'member' && this.standing.settled;
  }

  counts(shard: Shard): boolean {
    return this.firstStart === 'member' && countsFor(this.standing, shard.sets);
  }

  /** Calls `listener` after each change. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /**
   * `New → Member`: others have records; what this origin says counts once they handed over. `isFresh`: it is new to the
   * ring, so its empty folder holds all that it ever promised, and it may hand that over.
   */
  async join(isFresh: boolean): Promise<void> {
    await this.#change((now) => ({
      ...now,
      firstStart: 'member',
      standing: { ...now.standing, kept: isFresh },
    }));
  }

  /** `New → Noted → Member`, which counts. */
  async setFirstStart(firstStart: FirstStart): Promise<void> {
    await this.#change((now) => ({
      ...now,
      firstStart,
      standing: firstStart === 'member' ? { ...now.standing, settled: true } : now.standing,
    }));
  }

  /** A start that nobody confirms: a later generation with what is here. */
  async beginGeneration(knownMs = 0): Promise<void> {
    await this.#change((now) => {
      const { standing } = now;
      const generation = newGeneration(this.#deps, Math.max(standing.generation, knownMs));
      const { closing: _, ...rest } = now;
      return { ...rest, standing: begin(standing, generation, standing.kept || standing.settled) };
    });
  }

  /** For a source: records the asker's generation. */
  async grant(asker: { readonly id: string; readonly generation: number }): Promise<Grant> {
    let granted: Grant = { type: 'not-yet' };
    await this.#change((now) => {
      if (now.firstStart !== 'member') return now;
      granted = grant(now.standing, asker);
      // Asked again by the same generation, nothing is new: nothing is written.
      if (granted.type !== 'granted' || granted.next === now.standing) return now;
      return { ...now, standing: granted.next };
    });
    return granted;
  }

  /** A source handed everything over, or confirmed that nothing changed. */
  async takeOver(source: Parameters<typeof takeOver>[1], everybody: readonly string[]): Promise<void> {
    await this.#change((now) => {
      // It may share a shard with any two of the others: with each of them as a set of its own, all must be done.
      const others = everybody.filter((id) => id !== now.standing.id);
      const standing = takeOver(
        now.standing,
        source,
        others.map((id) => [now.standing.id, id]),
      );
      return { ...now, standing };
    });
  }

  /** Makes this origin count with the records that it has: an operator said so, or there is no other origin. */
  async settle(): Promise<void> {
    if (this.firstStart === 'member') await this.beginGeneration();
    await this.setFirstStart('member');
  }

  /**
   * Takes part in a membership from here on: messages of older epochs are refused. An older one changes nothing. Who
   * is not in it, or joins by it, counts no more, and no clean stop of before is confirmed any more. `file`: what the
   * document says now.
   */
  async follow(membership: Membership, file: readonly Member[]): Promise<void> {
    await this.#change((now) => {
      const known = now.membership;
      const isNews = known === undefined || membership.epoch > known.epoch;
      const next = isNews ? membership : known;
      const { id } = now.standing;
      const isIn = [...next.origins, ...(next.before ?? [])].some((one) => one.id === id);
      if (isIn && !(isNews && joinsBy(next, id)))
        return { ...now, standing: { ...now.standing, epoch: next.epoch }, membership: next, file };
      const { closing: _, ...rest } = now;
      return { ...rest, standing: { ...leave(now.standing), epoch: next.epoch }, membership: next, file };
    });
  }

  /**
   * Runs `work` of a message under the epoch it was sent by, and again looks whether that still is the epoch: what is
   * acknowledged belongs to it. @throws `EPOCH_OUTDATED`
   */
  async within<T>(epoch: number, work: () => Promise<T>): Promise<T> {
    this.requireEpoch(epoch);
    const done = await work();
    this.requireEpoch(epoch);
    return done;
  }

  /** @throws `EPOCH_OUTDATED` for a message of an older membership */
  requireEpoch(epoch: number): void {
    const own = this.#stored.standing.epoch;
    if (epoch < own) throw new CodedError('EPOCH_OUTDATED', { detail: { epoch: own } });
  }

  /** Notes that another origin stops cleanly. */
  async noteClosing(id: string, closing: Pick<Closing, 'generation' | 'token'>): Promise<void> {
    await this.#change((now) => ({ ...now, closings: { ...now.closings, [id]: closing } }));
  }

  /** True once if the other's folder is as it was closed: the note goes with the answer. */
  async confirmClosing(
    id: string,
    { generation, token }: Pick<Closing, 'generation' | 'token'>,
  ): Promise<boolean> {
    let isSame = false;
    await this.#change((now) => {
      const { [id]: known, ...others } = now.closings;
      isSame =
        known?.generation === generation &&
        known.token === token &&
        (now.standing.known[id] ?? 0) <= generation;
      return known === undefined ? now : { ...now, closings: others };
    });
    return isSame;
  }

  /** The last thing of a clean stop; `token`: what all others noted. */
  async closeWith(token: string | undefined, digest: string): Promise<void> {
    await this.#change(({ closing: _, ...now }) => {
      const { generation } = now.standing;
      return token === undefined ? now : { ...now, closing: { generation, token, digest } };
    });
  }

  /** Resolves when this origin counts for all shards. */
  async whenSettled(): Promise<void> {
    while (!this.isSettled)
      await new Promise<void>((resolve) => {
        const done = (): void => {
          this.#listeners.delete(done);
          resolve();
        };
        this.#listeners.add(done);
      });
  }

  async #change(change: (now: Stored) => Stored): Promise<void> {
    const turn = this.#saving.then(async () => {
      const next = change(this.#stored);
      if (next === this.#stored) return;
      await this.#save(next);
    });
    const over = (): void => undefined;
    this.#saving = turn.then(over, over);
    await turn;
  }

  async #save(next: Stored): Promise<void> {
    const { dir } = this.#deps.folder;
    const path = join(dir, FILE);
    const temporary = `${path}.${randomBytes(4).toString('hex')}`;
    await replaceWhole(diskFiles, { path, temporary, durable: true }, ENCODING.encode(JSON.stringify(next)));
    await diskFiles.syncFolder(dir);
    this.#stored = next;
    this.#header = senderHeader(next.standing);
    for (const listener of this.#listeners) listener();
  }
}

/** Later than all that are known, and never one that was used: two starts do not share a microsecond and the draw. */
function newGeneration({ nowMs }: OwnStandingDeps, known: number): number {
  return Math.max(nowMs() * 1000 + randomInt(1000), known + 1);
}

/** What outlives a database that was lost. */
function agreed({ membership, file }: Stored): Pick<Stored, 'membership' | 'file'> {
  return { ...(membership === undefined ? {} : { membership }), ...(file === undefined ? {} : { file }) };
}

async function isDatabaseEmpty(db: DataFolder['db']): Promise<boolean> {
  for await (const _ of db.keys({ limit: 1 })) return false;
  return true;
}

/** A member that starts does not count before others confirmed it or handed over. */
function unsettled(stored: Stored): Stored {
  const { standing } = stored;
  const kept = standing.kept || standing.settled;
  return { ...stored, standing: { ...standing, kept, settled: false, handed: [] } };
}

async function read(dir: string): Promise<Stored | 'damaged' | undefined> {
  const bytes = await readWhole(diskFiles, join(dir, FILE));
  if (bytes === undefined) return undefined;
  try {
    const stored = JSON.parse(Buffer.from(bytes).toString('utf8')) as Partial<Stored> | null;
    if (typeof stored?.v === 'number' && (stored.v as number) > 1)
      throw laterFormat(join(dir, FILE), stored.v, 1, { file: join(dir, FILE) });
    if (stored?.v !== 1 || stored.standing === undefined || typeof stored.marker !== 'string')
      return 'damaged';
    if (stored.membership !== undefined && !MEMBERSHIP_SCHEMA.safeParse(stored.membership).success)
      return 'damaged';
    return stored as Stored;
  } catch (error) {
    if (isCoded(error) || !(error instanceof SyntaxError)) throw error;
    return 'damaged';
  }
}
