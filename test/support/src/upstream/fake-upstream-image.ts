import { createCipheriv, createHash } from 'node:crypto';
import { type Digest, digestOf } from '@sepia/base/digest';
import { DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';

export type ImageType = 'oci' | 'docker';

export interface ImageSpec {
  /** Sizes of the layers, in bytes. */
  readonly layers: readonly number[];
  /** Same seed, same bytes. */
  readonly seed: string | number;
  readonly type?: ImageType;
  readonly architecture?: string;
}

export interface FakeManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

/** An image: its manifest, and its config and layers by digest. */
export interface FakeImage {
  readonly manifest: FakeManifest;
  readonly config: Digest;
  readonly layers: readonly Digest[];
  readonly blobs: ReadonlyMap<Digest, Buffer>;
}

/** Several images of one tag, by architecture. */
export interface FakeIndex {
  readonly manifest: FakeManifest;
  readonly images: readonly FakeImage[];
}

/** `sizeBytes` bytes that look random (AES-CTR) and are the same for the same seed. */
export function seededBytes(sizeBytes: number, seed: string): Buffer {
  const key = createHash('sha256').update(seed).digest();
  const cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
  return cipher.update(Buffer.alloc(sizeBytes));
}

/** An image of random layers. Its parts are consistent: sizes, digests and media types are true. */
export function makeImage(spec: ImageSpec): FakeImage {
  const docker = spec.type === 'docker';
  const blobs = new Map<Digest, Buffer>();
  const add = (bytes: Buffer): Digest => {
    const digest = digestOf(bytes);
    blobs.set(digest, bytes);
    return digest;
  };
  const layers = spec.layers.map((sizeBytes, index) => add(seededBytes(sizeBytes, `${spec.seed}/${index}`)));
  const config = add(
    json({
      architecture: spec.architecture ?? 'amd64',
      os: 'linux',
      seed: String(spec.seed),
      rootfs: { type: 'layers', diff_ids: layers },
    }),
  );
  const configType = docker
    ? 'application/vnd.docker.container.image.v1+json'
    : 'application/vnd.oci.image.config.v1+json';
  const layerType = docker
    ? 'application/vnd.docker.image.rootfs.diff.tar.gzip'
    : 'application/vnd.oci.image.layer.v1.tar';
  const describe = (digest: Digest, mediaType: string): object => ({
    mediaType,
    digest,
    size: blobs.get(digest)!.length,
  });
  const manifest = manifestOf(docker ? DOCKER_MANIFEST : OCI_MANIFEST, {
    config: describe(config, configType),
    layers: layers.map((digest) => describe(digest, layerType)),
  });
  return { manifest, config, layers, blobs };
}

/** An index (or Docker manifest list) of two architectures with layers of their own. */
export function makeIndex(spec: ImageSpec): FakeIndex {
  const images = ['amd64', 'arm64'].map((architecture) =>
    makeImage({ ...spec, architecture, seed: `${spec.seed}/${architecture}` }),
  );
  const manifest = manifestOf(spec.type === 'docker' ? DOCKER_LIST : OCI_INDEX, {
    manifests: images.map(({ manifest: one }, index) => ({
      mediaType: one.mediaType,
      digest: one.digest,
      size: one.bytes.length,
      platform: { architecture: index === 0 ? 'amd64' : 'arm64', os: 'linux' },
    })),
  });
  return { manifest, images };
}

function manifestOf(mediaType: string, fields: object): FakeManifest {
  const bytes = json({ schemaVersion: 2, mediaType, ...fields });
  return { digest: digestOf(bytes), mediaType, bytes };
}

function json(value: object): Buffer {
  return Buffer.from(JSON.stringify(value, undefined, 2));
}
