import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Digest, digestHex, digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import type { TestUser } from '@sepia/test-support/clients/token-client';
import { must } from '@sepia/test-support/testbed';
import { FakeUpstream } from '@sepia/test-support/upstream/fake-upstream';
import type { Test } from 'tap';
import type { MadeLayer } from './lazy-node.ts';

const SEPIA = join(import.meta.dirname, '../../../../sepia');
const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';

export const ALICE: TestUser = { username: 'alice', password: 'al1ce-S3cret' };
export const ROBOT: TestUser = { username: 'robot', password: 'r0bot-S3cret' };

/** A layer in a manifest. */
interface LayerPart {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** An image of the registry: what its manifest and its config say, and the bytes of its layers. */
export interface PushedImage {
  readonly repository: string;
  readonly layers: readonly LayerPart[];
  readonly diffIds: readonly Digest[];
  readonly blobs: readonly Buffer[];
}

/**
 * A registry that takes every manifest, true or not, and has repositories of two kinds: `open/…` for all, `alice/…` for
 * Alice and the cluster's robot. A blob is in the repositories that it was pushed to, in no other.
 */
export class PrivateRegistry {
  readonly #upstream: FakeUpstream;
  readonly #dir: string;
  #conversions = 0;

  private constructor(upstream: FakeUpstream, dir: string) {
    this.#upstream = upstream;
    this.#dir = dir;
  }

  /** `dir`: for images in work. Ended by the test's teardown. */
  static async start(t: Test, dir: string): Promise<PrivateRegistry> {
    const upstream = await FakeUpstream.start({
      auth: {
        type: 'token',
        users: { [ALICE.username]: ALICE.password, [ROBOT.username]: ROBOT.password },
        mayPull: (user, repository) =>
          repository.startsWith('open/') || user === ROBOT.username || repository.startsWith(`${user}/`),
      },
    });
    t.teardown(() => upstream.stop());
    return new PrivateRegistry(upstream, dir);
  }

  get url(): string {
    return this.#upstream.url;
  }

  /** Pushes what an image says and which of its blobs it brings as `repository:1`. */
  push(image: PushedImage): PushedImage {
    const { repository, blobs } = image;
    const { config, manifest } = documentsOf(image);
    for (const bytes of [config, ...blobs]) this.#upstream.addBlob(repository, bytes);
    const pushed = { digest: digestOf(manifest), mediaType: OCI_MANIFEST, bytes: manifest };
    this.#upstream.addManifest(repository, pushed, '1');
    return image;
  }

  /** Pushes an image as it is, or as `sepia convert --to estargz` makes it: with tables of contents and their annotations. */
  async pushMade(
    repository: string,
    form: 'ordinary' | 'estargz',
    made: readonly MadeLayer[],
  ): Promise<PushedImage> {
    const image = {
      repository,
      layers: made.map(({ blob }) => ({ mediaType: LAYER, digest: digestOf(blob), size: blob.length })),
      diffIds: made.map(({ diffId }) => diffId as Digest),
      blobs: made.map(({ blob }) => blob),
    };
    return this.push(form === 'ordinary' ? image : await this.#converted(image));
  }

  async #converted(image: PushedImage): Promise<PushedImage> {
    this.#conversions += 1;
    const [from, to, work] = ['from', 'to', 'work'].map((name) =>
      join(this.#dir, `${name}-${this.#conversions}`),
    ) as [string, string, string];
    writeLayout(from, image);
    await must(SEPIA, ['convert', from, to, '--to', 'estargz', '--work-dir', work]);
    const read = (digest: Digest): Buffer => readFileSync(blobIn(to, digest));
    const json = <T>(bytes: Buffer): T => JSON.parse(bytes.toString('utf8')) as T;
    const index = json<{ manifests: LayerPart[] }>(readFileSync(join(to, 'index.json')));
    const { config, layers } = json<{ config: LayerPart; layers: LayerPart[] }>(
      read(index.manifests[0]!.digest),
    );
    const { rootfs } = json<{ rootfs: { diff_ids: Digest[] } }>(read(config.digest));
    const blobs = layers.map(({ digest }) => read(digest));
    return { repository: image.repository, layers, diffIds: rootfs.diff_ids, blobs };
  }
}

function documentsOf({ repository, layers, diffIds }: PushedImage): { config: Buffer; manifest: Buffer } {
  const config = Buffer.from(
    JSON.stringify({
      ...{ os: 'linux', architecture: 'amd64', author: repository },
      config: { Cmd: ['/bin/true'], Env: ['PATH=/bin'] },
      rootfs: { type: 'layers', diff_ids: diffIds },
    }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, layers },
      config: { mediaType: OCI_CONFIG, digest: digestOf(config), size: config.length },
    }),
  );
  return { config, manifest };
}

function writeLayout(dir: string, image: PushedImage): void {
  const { config, manifest } = documentsOf(image);
  mkdirSync(join(dir, 'blobs/sha256'), { recursive: true });
  for (const bytes of [config, manifest, ...image.blobs]) writeFileSync(blobIn(dir, digestOf(bytes)), bytes);
  writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const top = { mediaType: OCI_MANIFEST, digest: digestOf(manifest), size: manifest.length };
  const annotations = { 'org.opencontainers.image.ref.name': '1' };
  const index = { schemaVersion: 2, manifests: [{ ...top, annotations }] };
  writeFileSync(join(dir, 'index.json'), JSON.stringify(index));
}

function blobIn(dir: string, digest: Digest): string {
  return join(dir, 'blobs/sha256', digestHex(digest));
}
