import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { type Digest, isDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { CONTAINERD_MS } from '../deadlines.ts';
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
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

interface Infos {
  readonly info: readonly { readonly labels: Readonly<Record<string, string>> }[];
}

/**
 * Asks containerd (≥ 2.4) which layers of our folder its snapshots name. Each question has a connection of its own,
 * so none waits for what an earlier one met while containerd was away or starting.
 */
export class ContainerdSnapshots {
  readonly #socket: string;
  readonly #answerMs: number;
  readonly #abort = new AbortController();

  constructor(socket: string, answerMs = CONTAINERD_MS) {
    this.#socket = socket;
    this.#answerMs = answerMs;
  }

  /** DiffIDs of those layers, over all of its namespaces. @throws {CodedError} `PEER_HTTP` where it does not answer */
  async layers(): Promise<ReadonlySet<Digest>> {
    const client = new Client(`unix:${this.#socket}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      // The common pool would hand out the connection of an earlier question.
      'grpc.use_local_subchannel_pool': 1,
    });
    try {
      await this.#speaks();
      const found = new Set<Digest>();
      for (const namespace of await this.#namespaces(client))
        for (const { info } of await this.#infos(client, namespace))
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
    } finally {
      client.close();
    }
  }

  /** A question that waits for containerd to speak ends with an error. */
  close(): void {
    this.#abort.abort();
  }

  /** It speaks HTTP/2. gRPC's client gives connecting no deadline and cannot end it, which would leak a socket. */
  async #speaks(): Promise<void> {
    const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(this.#answerMs)]);
    const session = connectHttp2('http://containerd', { createConnection: () => connect(this.#socket) });
    try {
      await once(session, 'remoteSettings', { signal });
    } catch (error) {
      throwIfBug(error);
      if (!signal.aborted) throw error;
      throw new CodedError('PEER_HTTP', { message: 'it took the connection and said nothing', cause: error });
    } finally {
      session.destroy();
    }
  }

  async #namespaces(client: Client): Promise<string[]> {
    const { path, requestSerialize, responseDeserialize } = NAMESPACES['List']!;
    const answer = await new Promise<{ namespaces: readonly { name: string }[] }>((resolve, reject) =>
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize as (bytes: Buffer) => { namespaces: readonly { name: string }[] },
        { filter: '' },
        new Metadata(),
        { deadline: Date.now() + this.#answerMs },
        (error: ServiceError | null, value) =>
          error === null ? resolve(value ?? { namespaces: [] }) : reject(error),
      ),
    );
    return answer.namespaces.map(({ name }) => name);
  }

  async #infos(client: Client, namespace: string): Promise<Infos[]> {
    const { path, requestSerialize, responseDeserialize } = SNAPSHOTS['List']!;
    const metadata = new Metadata();
    metadata.set('containerd-namespace', namespace);
    const call = client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize as (bytes: Buffer) => Infos,
      { snapshotter: SNAPSHOTTER, filters: [] },
      metadata,
      { deadline: Date.now() + this.#answerMs },
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
