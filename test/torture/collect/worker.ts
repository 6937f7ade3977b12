import { delay } from '@sepia/base/lifecycle';
import { seeded } from '@sepia/test-support/seeded';
import { type Answer, ask, bytesOf, digestOf, pushBlob } from '../client.ts';
import type { Blob } from '../history.ts';
import { Content, type Made } from './content.ts';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const TAGS = 4;
/** Layers that all clients choose from, so that they share them. */
const LAYERS = 40;
const ANSWER_MS = 120_000;
const AGAIN_MS = 500;

/** What was found wrong, and how much was done. */
export interface Sum {
  lost: number;
  corrupt: number;
  kept: number;
  operations: number;
  repeats: number;
  readonly texts: string[];
}

export function layerOf(index: number): Blob {
  return { seed: 1_000 + index, sizeBytes: 500 + ((index * 7_919) % 120_000) };
}

/** One client: pushes, moves, mounts and deletes its own tags of a repository, and reads what must be there. */
export class Worker {
  readonly repository: string;
  readonly content = new Content();
  readonly #name: string;
  readonly #chance: () => number;
  readonly #proxies: readonly string[];
  readonly #others: readonly string[];
  readonly #sum: Sum;
  #made = 0;

  constructor(options: {
    readonly name: string;
    readonly repository: string;
    /** Repositories that layers are mounted from. */
    readonly others: readonly string[];
    readonly proxies: readonly string[];
    readonly seed: number;
    readonly sum: Sum;
  }) {
    this.#name = options.name;
    this.repository = options.repository;
    this.#others = options.others;
    this.#proxies = options.proxies;
    this.#sum = options.sum;
    this.#chance = seeded(options.seed);
  }

  /** One random operation, repeated until it was answered for certain. */
  async step(): Promise<void> {
    const tags = [...this.content.tags];
    const tag = `${this.#name}-t${this.#below(TAGS)}`;
    const chosen = tags[this.#below(tags.length)];
    const kind = this.#below(20);
    this.#sum.operations += 1;
    if (kind < 6 || chosen === undefined) return await this.#push(this.#image(), tag, kind < 3);
    if (kind < 8) return await this.#push(chosen[1], tag, false);
    if (kind === 8) return await this.#push(this.#index(tags.map(([, made]) => made)), tag, false);
    if (kind === 9) return await this.#push(this.#attached(chosen[1]), undefined, false);
    if (kind === 10) return await this.#leave();
    if (kind === 11) return await this.#untag(chosen[0]);
    if (kind === 12 && !this.#isChild(chosen[1].digest)) return await this.#delete(chosen[1].digest);
    if (kind < 15) return await this.readAll([...this.content.mustStay().values()].slice(0, 3));
    await this.#readTag(...chosen);
  }

  /** Reads these manifests, by digest, with every blob that they name. */
  async readAll(manifests: readonly Made[]): Promise<void> {
    for (const made of manifests) {
      await this.#readManifest(made.digest, made);
      for (const blob of made.blobs) await this.#readBlob(blob, `named by ${made.digest}`);
    }
  }

  /** Reads each tag whole. */
  async readTags(): Promise<void> {
    for (const [tag, made] of this.content.tags) await this.#readTag(tag, made);
  }

  /** What no tag leads to any more must not be served: says so if it is. */
  async keptOf(path: string): Promise<string[]> {
    const { status } = await this.#certain('HEAD', path);
    return status === 404 ? [] : [`KEPT ${this.repository}/${path} is ${status}`];
  }

  async #readTag(tag: string, made: Made): Promise<void> {
    await this.#readManifest(tag, made);
    for (const blob of made.blobs) await this.#readBlob(blob, `named by tag ${tag}`);
    for (const child of made.children) await this.#readManifest(child, undefined);
  }

  async #readManifest(reference: string, made: Made | undefined): Promise<void> {
    const answer = await this.#certain('GET', `manifests/${reference}`);
    this.#judge(answer, `manifests/${reference}`, made?.digest ?? reference);
  }

  async #readBlob(digest: string, why: string): Promise<void> {
    this.#judge(await this.#certain('GET', `blobs/${digest}`), `blobs/${digest}, ${why},`, digest);
  }

  #judge(answer: Answer, what: string, digest: string): void {
    const place = `${this.repository}/${what}`;
    if (answer.status !== 200) {
      this.#sum.lost += 1;
      this.#sum.texts.push(`LOST ${place} is ${answer.status} ${answer.body.toString('utf8', 0, 200)}`);
    } else if (digestOf(answer.body) !== digest) {
      this.#sum.corrupt += 1;
      this.#sum.texts.push(`CORRUPT ${place} came as ${digestOf(answer.body)}`);
    }
  }

  /** As clients push: what a HEAD finds is not sent again; a refusal because of a sweep is repeated whole. */
  async #push(made: Made, tag: string | undefined, mounts: boolean): Promise<void> {
    const deadline = performance.now() + ANSWER_MS;
    for (;;) {
      const answer = await this.#pushOnce(made, tag, mounts);
      if (answer.status === 201) return this.content.pushed(made, tag);
      const isUnknown = answer.status === 404 || answer.status === 400;
      const text = answer.body.toString('utf8', 0, 300);
      const maySweep = !isUnknown || /MANIFEST_BLOB_UNKNOWN|BLOB_UNKNOWN|MANIFEST_UNKNOWN/.test(text);
      if (!maySweep || performance.now() > deadline)
        throw new Error(`${this.repository}: push of ${made.digest} is ${answer.status} ${text}`);
      this.#sum.repeats += 1;
      await delay(AGAIN_MS);
    }
  }

  async #pushOnce(made: Made, tag: string | undefined, mounts: boolean): Promise<Answer> {
    for (const digest of made.blobs) {
      const answer = await this.#blob(digest, mounts);
      if (answer.status !== 201 && answer.status !== 200) return answer;
    }
    for (const child of made.children) {
      const known = this.content.made.get(child);
      if (known === undefined) continue;
      const answer = await this.#pushOnce(known, undefined, mounts);
      if (answer.status !== 201) return answer;
    }
    return await ask('PUT', this.#url(`manifests/${tag ?? made.digest}`), {
      headers: { 'content-type': made.mediaType },
      body: made.bytes,
    });
  }

  async #blob(digest: string, mounts: boolean): Promise<Answer> {
    const there = await ask('HEAD', this.#url(`blobs/${digest}`));
    if (there.status === 200 || there.status !== 404) return there;
    if (mounts) {
      const from = this.#others[this.#below(this.#others.length)]!;
      const answer = await ask('POST', this.#url(`blobs/uploads/?mount=${digest}&from=${from}`));
      if (answer.status === 201) return answer;
    }
    return await pushBlob(this.#proxy(), this.repository, this.#bytes(digest));
  }

  readonly #contents = new Map<string, Buffer>();

  #bytes(digest: string): Buffer {
    return this.#contents.get(digest)!;
  }

  #keep(bytes: Buffer): { digest: string; size: number; mediaType: string } {
    const digest = digestOf(bytes);
    this.#contents.set(digest, bytes);
    return { digest, size: bytes.length, mediaType: 'application/vnd.oci.image.layer.v1.tar' };
  }

  #image(): Made {
    const layers = Array.from({ length: 1 + this.#below(3) }, () =>
      this.#keep(bytesOf(layerOf(this.#below(LAYERS)))),
    );
    const config = this.#keep(Buffer.from(JSON.stringify({ of: this.#name, number: this.#made++ })));
    return this.#manifest({ config, layers }, undefined);
  }

  #attached(to: Made): Made {
    const subject = { mediaType: to.mediaType, digest: to.digest, size: to.bytes.length };
    const layer = this.#keep(Buffer.from(`signature ${this.#made++} of ${this.#name}`));
    return this.#manifest(
      { config: layer, layers: [layer], subject, artifactType: 'application/vnd.example.sign' },
      to.digest,
    );
  }

  #index(images: readonly Made[]): Made {
    const children = images.filter((one) => one.mediaType === MANIFEST).slice(0, 2);
    const manifests = children.map(({ digest, bytes, mediaType }) => ({
      mediaType,
      digest,
      size: bytes.length,
    }));
    const facts = { schemaVersion: 2, mediaType: INDEX, manifests, annotations: this.#mark() };
    const bytes = Buffer.from(JSON.stringify(facts));
    return {
      digest: digestOf(bytes),
      bytes,
      mediaType: INDEX,
      blobs: [],
      children: children.map(({ digest }) => digest),
      subject: undefined,
    };
  }

  #manifest(
    facts: {
      readonly config: { readonly digest: string };
      readonly layers: readonly { readonly digest: string }[];
      readonly [field: string]: unknown;
    },
    subject: string | undefined,
  ): Made {
    const body = { schemaVersion: 2, mediaType: MANIFEST, ...facts, annotations: this.#mark() };
    const bytes = Buffer.from(JSON.stringify(body));
    const blobs = [...new Set([facts.config, ...facts.layers].map(({ digest }) => digest))];
    return { digest: digestOf(bytes), bytes, mediaType: MANIFEST, blobs, children: [], subject };
  }

  /** No two clients make the same manifest. */
  #mark(): Record<string, string> {
    return { 'com.example.made': `${this.#name} ${this.#made++}` };
  }

  /** Layers of a push that is given up. */
  async #leave(): Promise<void> {
    await this.#blob(this.#image().blobs[0]!, false);
  }

  async #untag(tag: string): Promise<void> {
    await this.#certain('DELETE', `manifests/${tag}`);
    this.content.untagged(tag);
  }

  async #delete(digest: string): Promise<void> {
    await this.#certain('DELETE', `manifests/${digest}`);
    this.content.deleted(digest);
  }

  #isChild(digest: string): boolean {
    return [...this.content.made.values()].some(({ children }) => children.includes(digest));
  }

  /** Asked until the answer is one for certain. */
  async #certain(method: string, path: string): Promise<Answer> {
    const deadline = performance.now() + ANSWER_MS;
    for (;;) {
      const answer = await ask(method, this.#url(path), { headers: { accept: `${MANIFEST}, ${INDEX}` } });
      const { status, complete } = answer;
      if (complete && status > 0 && status < 500 && status !== 429) return answer;
      if (performance.now() > deadline)
        throw new Error(`${this.repository}/${path}: no answer for certain, at last ${status}`);
      this.#sum.repeats += 1;
      await delay(AGAIN_MS);
    }
  }

  #url(path: string): string {
    return `${this.#proxy()}/v2/${this.repository}/${path}`;
  }

  /** Requests are shuffled between the proxies. */
  #proxy(): string {
    return this.#proxies[this.#below(this.#proxies.length)]!;
  }

  #below(limit: number): number {
    return Math.floor(this.#chance() * limit);
  }
}
