import type { Digest } from '@sepia/base/digest';

/** A link of a repository that stands, with its clock. */
export interface GcLink {
  readonly digest: Digest;
  /** When it was last written: by an upload, a mount, or a push that names it. */
  readonly atMs: number;
  /** 0 where the link does not say. */
  readonly sizeBytes: number;
  /** What it leads to names further content. */
  readonly isManifest: boolean;
}

/** A manifest that is listed under the subject that it names, and the clock of that entry. */
export interface GcReferrer {
  readonly subject: Digest;
  readonly digest: Digest;
  readonly atMs: number;
}

/** All that a repository has on record: what a sweep decides by which of its links are still needed. */
export interface RepositoryView {
  /** Where tags point, and where they may be rolled back to. */
  readonly roots: Iterable<Digest>;
  /** Blobs that stay whoever names them. */
  readonly further?: Iterable<Digest>;
  readonly links: ReadonlyMap<Digest, GcLink>;
  readonly referrers: readonly GcReferrer[];
  /** Clock of the oldest link on record, also of one that was taken away. */
  readonly sinceMs?: number;
}

/** What is kept whoever names it: links younger than `graceMs`. */
export interface MarkRules {
  /** By the wall clock, as links have it. */
  readonly nowMs: number;
  readonly graceMs: number;
}

/** What a manifest names. */
export interface GcNames {
  readonly blobs: Iterable<Digest>;
  /** What may name more, whatever its link says: an index gives any type to what it names. */
  readonly manifests: Iterable<Digest>;
}

/** How something is reached: a `child` of an index may be a manifest, what a tag or subject leads to is one. */
type Reached = 'blob' | 'child' | 'manifest';

/** Manifests that are read for a mark at once. */
const READ_AT_ONCE = 64;

/**
 * Marks what of one repository is referenced: from its tags and from every link that is younger than the grace, along
 * manifests to what they name, and from a subject to what names it. A subject keeps its referrers, not the other way
 * round. Bytes of manifests are read by the caller: take {@link wanted} until it is empty, and {@link learn} each.
 */
export class RepositoryMark {
  readonly #view: RepositoryView;
  readonly #rules: MarkRules;
  readonly #live = new Set<Digest>();
  readonly #unread: Digest[] = [];
  readonly #asked = new Set<Digest>();
  readonly #certain = new Set<Digest>();
  readonly #bySubject = new Map<Digest, Digest[]>();

  constructor(view: RepositoryView, rules: MarkRules) {
    this.#view = view;
    this.#rules = rules;
    for (const { subject, digest } of view.referrers) {
      const known = this.#bySubject.get(subject);
      if (known === undefined) this.#bySubject.set(subject, [digest]);
      else known.push(digest);
    }
    this.#reach(view.roots, 'manifest');
    this.#reach(view.further ?? [], 'blob');
    for (const link of view.links.values()) if (this.#isYoung(link.atMs)) this.#reach([link.digest], 'blob');
  }

  /** Manifests whose names must be learnt next; each is wanted once. */
  wanted(): readonly Digest[] {
    return this.#unread.splice(0, READ_AT_ONCE);
  }

  /** What a wanted manifest names. */
  learn({ blobs, manifests }: GcNames): void {
    this.#reach(blobs, 'blob');
    this.#reach(manifests, 'child');
  }

  /** What was wanted need not be a manifest: only an index names it, as of a type that is not known. */
  isDoubtful(digest: Digest): boolean {
    return !this.#certain.has(digest);
  }

  /** Links that nothing refers to; whoever names something comes before what it names. Only once nothing is wanted. */
  deadLinks(): GcLink[] {
    const dead = [...this.#view.links.values()].filter((link) => !this.#live.has(link.digest));
    const named = new Set(
      this.#view.referrers.filter(({ digest }) => !this.#live.has(digest)).map(({ digest }) => digest),
    );
    const rank = ({ digest, isManifest }: GcLink): number => (isManifest ? (named.has(digest) ? 1 : 0) : 2);
    return dead.sort((a, b) => rank(a) - rank(b) || (a.digest < b.digest ? -1 : 1));
  }

  /** Entries under subjects whose manifest is not linked any more, or has no reference. */
  deadReferrers(): GcReferrer[] {
    return this.#view.referrers.filter(({ digest, atMs }) => !this.#live.has(digest) && !this.#isYoung(atMs));
  }

  #isYoung(atMs: number): boolean {
    return this.#rules.nowMs - atMs < this.#rules.graceMs;
  }

  /** What has no link is not here: nothing is reached through it. */
  #reach(digests: Iterable<Digest>, as: Reached): void {
    const open = [...digests].map((digest) => ({ digest, as }));
    for (let one = open.pop(); one !== undefined; one = open.pop()) {
      const { digest } = one;
      const link = this.#view.links.get(digest);
      if (link === undefined) continue;
      if (link.isManifest || one.as === 'manifest') this.#certain.add(digest);
      if ((link.isManifest || one.as !== 'blob') && !this.#asked.has(digest)) {
        this.#asked.add(digest);
        this.#unread.push(digest);
      }
      if (this.#live.has(digest)) continue;
      this.#live.add(digest);
      for (const referrer of this.#bySubject.get(digest) ?? [])
        open.push({ digest: referrer, as: 'manifest' });
    }
  }
}
