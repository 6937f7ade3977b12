import {
  type Answer,
  bytesOf,
  deleteTag,
  digestOf,
  getBlob,
  getManifest,
  manifestOf,
  pushBlob,
  putManifest,
} from './client.ts';
import type { History, Verdict, WriteOutcome } from './history.ts';
import type { Operation } from './schedule.ts';

export const REPOSITORY = 'torture/app';
const READS_AT_ONCE = 6;

/** What readers found wrong, counted. */
export interface Findings {
  lost: number;
  corrupt: number;
  stale: number;
  /** What got no certain answer until the deadline, and what did not become whole: not seen to be lost. */
  unanswered: number;
  /** Operations that were answered as asked, and those that were refused or not answered. */
  answered: number;
  refused: number;
  readonly texts: string[];
}

export function noFindings(): Findings {
  return { lost: 0, corrupt: 0, stale: 0, unanswered: 0, answered: 0, refused: 0, texts: [] };
}

export function isClean({ lost, corrupt, stale, unanswered }: Findings): boolean {
  return lost + corrupt + stale + unanswered === 0;
}

/** The counts of the last line: `unanswered` is named only if there is any. */
export function textOf({ lost, corrupt, stale, unanswered }: Findings): string {
  const silent = unanswered === 0 ? '' : `, unanswered ${unanswered}`;
  return `lost ${lost}, corrupt ${corrupt}, stale ${stale}${silent}`;
}

/** Carries operations out and compares every answer with what was acknowledged. */
export class Traffic {
  readonly findings: Findings = noFindings();
  readonly #history: History;
  readonly #urlOf: (name: string) => string;
  readonly #now: () => number;

  constructor(history: History, urlOf: (name: string) => string, now: () => number) {
    this.#history = history;
    this.#urlOf = urlOf;
    this.#now = now;
  }

  async run(operation: Operation): Promise<void> {
    const base = this.#urlOf(operation.at);
    const { type, tag, pick } = operation;
    if (type === 'push') return await this.#push(base, operation);
    if (type === 'retag') {
      const digest = chosen(this.#history.manifests, pick);
      if (digest !== undefined) await this.#retag(base, tag, digest);
      return;
    }
    if (type === 'delete') return await this.#delete(base, tag);
    if (type === 'read-tag') return void (await this.readTag(operation.at, tag, false));
    const digest = chosen(this.#history.blobs, pick);
    if (digest === undefined) return;
    if (type === 'read-blob') await this.readContent(operation.at, digest);
    else await this.#readRange(operation.at, digest, pick);
  }

  /** Reads a tag; true if it was answered for certain (200 or 404). */
  async readTag(at: string, tag: string, isSettled = true): Promise<boolean> {
    const beganAt = this.#now();
    const answer = await getManifest(this.#urlOf(at), REPOSITORY, tag);
    if (!this.#counts(answer) || (answer.status !== 200 && answer.status !== 404)) return false;
    const digest = answer.status === 404 ? '' : digestOf(answer.body);
    if (digest !== '' && answer.headers['docker-content-digest'] !== digest)
      this.#found(
        'corrupt',
        `${at}: tag ${tag} names ${String(answer.headers['docker-content-digest'])}, its bytes are ${digest}`,
      );
    const verdict = this.#history.read(tag, digest, beganAt, this.#now());
    // An agent that nobody answers may say what it knew last, if it says that too.
    const isOld = !isSettled && answer.headers['sepia-stale'] !== undefined && verdict === 'stale';
    if (verdict !== 'ok' && !isOld)
      this.#found(verdict, `${at}: tag ${tag} is ${digest === '' ? '404' : digest}`);
    return true;
  }

  /** Reads a blob or a manifest with a 201; true if it was answered for certain. */
  async readContent(at: string, digest: string): Promise<boolean> {
    const isBlob = this.#history.blob(digest) !== undefined;
    const base = this.#urlOf(at);
    const answer = isBlob
      ? await getBlob(base, REPOSITORY, digest)
      : await getManifest(base, REPOSITORY, digest);
    if (answer.status === 404) {
      this.#found('lost', `${at}: ${digest} is 404`);
      return true;
    }
    if (!this.#counts(answer) || answer.status !== 200) return false;
    if (digestOf(answer.body) !== digest)
      this.#found(
        'corrupt',
        `${at}: ${digest} came as ${digestOf(answer.body)} (${answer.body.length} bytes)`,
      );
    return true;
  }

  /** Something was waited for until its deadline, and nobody said that it is there, or that it is gone. */
  unanswered(text: string): void {
    this.#found('unanswered', text);
  }

  async #readRange(at: string, digest: string, pick: number): Promise<void> {
    const blob = this.#history.blob(digest)!;
    const start = Math.floor(pick * 0.9 * blob.sizeBytes);
    const end = Math.min(blob.sizeBytes - 1, start + Math.floor(pick * 1_500_000));
    const answer = await getBlob(this.#urlOf(at), REPOSITORY, digest, { start, end });
    if (answer.status === 404) this.#found('lost', `${at}: ${digest} is 404`);
    if (!this.#counts(answer) || answer.status !== 206) return;
    if (!answer.body.equals(bytesOf(blob).subarray(start, end + 1)))
      this.#found('corrupt', `${at}: bytes ${start}-${end} of ${digest}`);
  }

  async #push(base: string, { tag, blobs }: Operation): Promise<void> {
    const history = this.#history;
    for (const blob of blobs) {
      const bytes = bytesOf(blob);
      const digest = digestOf(bytes);
      history.sent(digest, blob);
      const answer = await pushBlob(base, REPOSITORY, bytes);
      if (!this.#counts(answer) || answer.status !== 201) return;
      history.acknowledged(digest);
    }
    const manifest = manifestOf(blobs);
    const digest = digestOf(manifest);
    history.sentManifest(
      digest,
      blobs.map((blob) => digestOf(bytesOf(blob))),
    );
    const end = history.begin(tag, digest, this.#now());
    const answer = await putManifest(base, REPOSITORY, tag, manifest);
    const outcome = outcomeOf(answer, 201);
    end(outcome, this.#now());
    if (outcome === 'done') history.acknowledged(digest);
    this.#counts(answer);
  }

  async #retag(base: string, tag: string, digest: string): Promise<void> {
    const manifest = manifestOf(this.#history.blobsOf(digest).map((one) => this.#history.blob(one)!));
    const end = this.#history.begin(tag, digest, this.#now());
    const answer = await putManifest(base, REPOSITORY, tag, manifest);
    end(outcomeOf(answer, 201), this.#now());
    this.#counts(answer);
  }

  async #delete(base: string, tag: string): Promise<void> {
    const end = this.#history.begin(tag, '', this.#now());
    const answer = await deleteTag(base, REPOSITORY, tag);
    // 404 may come from a second try of a proxy whose first one did it: it may have happened.
    end(answer.status === 404 ? 'doubt' : outcomeOf(answer, 202), this.#now());
    this.#counts(answer);
  }

  /** True for a whole answer that is no failure. */
  #counts(answer: Answer): boolean {
    const isGood = answer.complete && answer.status > 0 && answer.status < 500 && answer.status !== 429;
    if (isGood) this.findings.answered += 1;
    else this.findings.refused += 1;
    return isGood;
  }

  #found(verdict: Exclude<Verdict, 'ok'> | 'unanswered', text: string): void {
    this.findings[verdict] += 1;
    this.findings.texts.push(`${verdict.toUpperCase()} ${text}`);
  }
}

/** One read of {@link readAnswered}: of what, and by whom; true if it was answered for certain. */
export interface Read {
  readonly what: string;
  readonly at: string;
  readonly read: () => Promise<boolean>;
}

/** Makes these reads at once, each until `again` gives up on it: then it counts as unanswered, which is not lost. */
export async function readAnswered(
  traffic: Traffic,
  reads: readonly Read[],
  again: (read: () => Promise<boolean>) => Promise<boolean>,
): Promise<void> {
  await Promise.all(
    reads.map(async ({ what, at, read }) => {
      if (!(await again(read))) traffic.unanswered(`${at}: ${what} has no answer, all members are ready`);
    }),
  );
}

/** Reads everything that was acknowledged at each of these members, until it has an answer for certain. */
export async function readEverything(
  traffic: Traffic,
  history: History,
  readers: readonly string[],
  again: (read: () => Promise<boolean>) => Promise<boolean>,
): Promise<void> {
  const reads: Read[] = [
    ...history.tags.flatMap((tag) =>
      readers.map((at) => ({ what: `tag ${tag}`, at, read: () => traffic.readTag(at, tag) })),
    ),
    ...history.content.map((digest, index) => {
      const at = readers[index % readers.length]!;
      return { what: digest, at, read: () => traffic.readContent(at, digest) };
    }),
  ];
  for (let from = 0; from < reads.length; from += READS_AT_ONCE)
    await readAnswered(traffic, reads.slice(from, from + READS_AT_ONCE), again);
}

/** Status 4xx that says no for certain; anything else that is not `good` may have happened. */
function outcomeOf(answer: Answer, good: number): WriteOutcome {
  if (answer.status === good && answer.complete) return 'done';
  const isNo = answer.status >= 400 && answer.status < 500 && answer.status !== 408 && answer.status !== 429;
  return isNo ? 'refused' : 'doubt';
}

function chosen<T>(list: readonly T[], pick: number): T | undefined {
  return list[Math.floor(pick * list.length)];
}
