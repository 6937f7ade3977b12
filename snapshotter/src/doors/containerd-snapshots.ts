import { join } from 'node:path';
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { type Digest, isDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { serviceIn } from '../snapshots/service-in.ts';

const NAMESPACES = serviceIn(
  join(import.meta.dirname, 'namespaces.proto'),
  'containerd.services.namespaces.v1.Namespaces',
);
const SNAPSHOTS = serviceIn(
  join(import.meta.dirname, '../snapshots/snapshots.proto'),
  'containerd.services.snapshots.v1.Snapshots',
);
const SNAPSHOTTER = 'erofs';
/** What containerd's erofs snapshotter notes of a snapshot whose layer it found in a folder: the path there. */
const BLOB_REF = 'io.containerd.erofs.v1/blob.ref';
const ANSWER_MS = 10_000;
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

interface Infos {
  readonly info: readonly { readonly labels: Readonly<Record<string, string>> }[];
}

/** Asks containerd (≥ 2.4) which layers of our folder its snapshots name. */
export class ContainerdSnapshots {
  readonly #client: Client;
  readonly #socket: string;

  constructor(socket: string) {
    this.#socket = socket;
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.initial_reconnect_backoff_ms': 1_000,
      'grpc.max_reconnect_backoff_ms': 5_000,
    });
  }

  /** DiffIDs of those layers, over all of its namespaces. @throws {CodedError} `PEER_HTTP` where it does not answer */
  async layers(): Promise<ReadonlySet<Digest>> {
    try {
      const found = new Set<Digest>();
      for (const namespace of await this.#namespaces())
        for (const { info } of await this.#infos(namespace))
          for (const { labels } of info) {
            const diffId = diffIdOf(labels[BLOB_REF]);
            if (diffId !== undefined) found.add(diffId);
          }
      return found;
    } catch (error) {
      throwIfBug(error);
      throw new CodedError('PEER_HTTP', {
        message: `containerd at ${this.#socket} does not say what its snapshots name: ${(error as Error).message}`,
        cause: error,
      });
    }
  }

  close(): void {
    this.#client.close();
  }

  async #namespaces(): Promise<string[]> {
    const { path, requestSerialize, responseDeserialize } = NAMESPACES['List']!;
    const answer = await new Promise<{ namespaces: readonly { name: string }[] }>((resolve, reject) =>
      this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize as (bytes: Buffer) => { namespaces: readonly { name: string }[] },
        { filter: '' },
        new Metadata(),
        { deadline: Date.now() + ANSWER_MS },
        (error: ServiceError | null, value) =>
          error === null ? resolve(value ?? { namespaces: [] }) : reject(error),
      ),
    );
    return answer.namespaces.map(({ name }) => name);
  }

  async #infos(namespace: string): Promise<Infos[]> {
    const { path, requestSerialize, responseDeserialize } = SNAPSHOTS['List']!;
    const metadata = new Metadata();
    metadata.set('containerd-namespace', namespace);
    const call = this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize as (bytes: Buffer) => Infos,
      { snapshotter: SNAPSHOTTER, filters: [] },
      metadata,
      { deadline: Date.now() + ANSWER_MS },
    );
    const all: Infos[] = [];
    for await (const infos of call) all.push(infos as Infos);
    return all;
  }
}

/** `…/sha256/<first two>/<hex>.erofs`: whatever the folder is called where containerd runs. */
function diffIdOf(ref: string | undefined): Digest | undefined {
  const [, algorithm, hex] = /([^/]+)\/[^/]+\/([^/]+)\.erofs$/.exec(ref ?? '') ?? [];
  const diffId = `${algorithm}:${hex}`;
  return isDigest(diffId) ? diffId : undefined;
}
