import { chmod, mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  type handleUnaryCall,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type StatusObject,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { CodedError, type ErrorCode } from '@sepia/base/errors';
import { isBug, logFailure } from '@sepia/base/failure';
import type { Stoppable } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { Kind, Labels, Snapshot } from './core/table.ts';
import { serviceIn } from './service-in.ts';
import { isRefusal, type Snapshots } from './snapshots.ts';

const PROTO = join(import.meta.dirname, 'snapshots.proto');
const SERVICE = 'containerd.services.snapshots.v1.Snapshots';
/** Infos in one message of a List; containerd takes at most 16 MiB. */
const INFOS_AT_ONCE = 100;
/** `sun_path` of Linux, without its end. */
const MAX_SOCKET_BYTES = 107;
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
const STATUS: Partial<Record<ErrorCode, status>> = {
  SNAPSHOT_UNKNOWN: status.NOT_FOUND,
  SNAPSHOT_EXISTS: status.ALREADY_EXISTS,
  SNAPSHOT_STATE: status.FAILED_PRECONDITION,
  REQUEST_INVALID: status.INVALID_ARGUMENT,
  DRAINING: status.UNAVAILABLE,
};

interface Key {
  readonly key: string;
}
interface Begin extends Key {
  readonly parent: string;
  readonly labels: Labels;
}
interface Commit extends Key {
  readonly name: string;
  readonly labels: Labels;
  readonly parent: string;
}
interface Update {
  readonly info: { readonly name: string; readonly labels: Labels } | null;
  readonly mask: { readonly paths: readonly string[] } | null;
}

/**
 * Serves the snapshots on a Unix socket, as a `proxy_plugins` entry of containerd's config names it. The socket belongs
 * to root alone.
 * @throws {CodedError} `START_FAILED`
 */
export async function serveSnapshots(deps: {
  readonly snapshots: Snapshots;
  readonly socket: string;
  readonly log: Logger;
}): Promise<Stoppable> {
  const { snapshots, socket, log } = deps;
  if (Buffer.byteLength(socket) > MAX_SOCKET_BYTES)
    throw new CodedError('START_FAILED', {
      message: `snapshots-socket: ${socket} is longer than ${MAX_SOCKET_BYTES} bytes, which is all that a socket's path can have`,
    });
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  });
  server.addService(serviceIn(PROTO, SERVICE), handlers(snapshots, log));
  await mkdir(dirname(socket), { recursive: true, mode: 0o700 });
  await rm(socket, { force: true });
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve();
      else reject(new CodedError('START_FAILED', { message: `${socket}: ${error.message}`, cause: error }));
    }),
  );
  await chmod(socket, 0o600);
  return {
    // Calls that run are answered "unavailable": containerd asks the next process.
    stop: async () => server.forceShutdown(),
  };
}

function handlers(snapshots: Snapshots, log: Logger): UntypedServiceImplementation {
  const unary = <In, Out>(name: string, answer: (request: In) => Promise<Out>): handleUnaryCall<In, Out> => {
    return (call: ServerUnaryCall<In, Out>, reply: sendUnaryData<Out>) => {
      answer(call.request).then(
        (value) => reply(null, value),
        (error: unknown) => {
          if (!isRefusal(error)) logFailure(log, error, 'a call of containerd failed', { call: name });
          reply(statusOf(error));
        },
      );
    };
  };
  return {
    Prepare: unary('Prepare', async ({ key, parent, labels }: Begin) => ({
      mounts: await snapshots.begin('active', { name: key, parent, labels }),
    })),
    View: unary('View', async ({ key, parent, labels }: Begin) => ({
      mounts: await snapshots.begin('view', { name: key, parent, labels }),
    })),
    Mounts: unary('Mounts', async ({ key }: Key) => ({
      mounts: await snapshots.mounts(key),
    })),
    Commit: unary('Commit', async ({ key, name, labels, parent }: Commit) => {
      // Only where a snapshotter offers "rebase" does containerd give it.
      if (parent !== '' && parent !== snapshots.stat(key).parent)
        throw new CodedError('REQUEST_INVALID', { message: 'a snapshot cannot change its parent here' });
      await snapshots.commit(key, name, labels);
      return {};
    }),
    Remove: unary('Remove', async ({ key }: Key) => {
      await snapshots.remove(key);
      return {};
    }),
    Stat: unary('Stat', async ({ key }: Key) => ({ info: infoOf(snapshots.stat(key)) })),
    Update: unary('Update', async ({ info, mask }: Update) => {
      if (info === null) throw new CodedError('REQUEST_INVALID', { message: 'update of no snapshot' });
      return { info: infoOf(await snapshots.update(info.name, info.labels, mask?.paths ?? [])) };
    }),
    Usage: unary('Usage', async ({ key }: Key) => {
      const { sizeBytes, inodes } = await snapshots.usage(key);
      return { size: sizeBytes, inodes };
    }),
    Cleanup: unary('Cleanup', async () => {
      await snapshots.cleanup();
      return {};
    }),
    List: (call: ServerWritableStream<{ filters: string[] }, { info: Info[] }>) => {
      try {
        const found = snapshots.list(call.request.filters).map(infoOf);
        for (let at = 0; at < found.length; at += INFOS_AT_ONCE)
          call.write({ info: found.slice(at, at + INFOS_AT_ONCE) });
        call.end();
      } catch (error) {
        if (!isRefusal(error)) logFailure(log, error, 'a call of containerd failed', { call: 'List' });
        call.emit('error', statusOf(error));
      }
    },
  };
}

interface Info {
  readonly name: string;
  readonly parent: string;
  readonly kind: Kind;
  readonly created: Time;
  readonly updated: Time;
  readonly labels: Labels;
}
interface Time {
  readonly seconds: number;
  readonly nanos: number;
}

function infoOf({ name, parent, kind, createdMs, updatedMs, labels }: Snapshot): Info {
  return { name, parent, kind, created: timeOf(createdMs), updated: timeOf(updatedMs), labels };
}

function timeOf(ms: number): Time {
  const seconds = Math.floor(ms / 1_000);
  return { seconds, nanos: Math.floor((ms - 1_000 * seconds) * 1e6) };
}

/** What containerd is told of a failure: "internal" where it is a fault of ours. */
function statusOf(error: unknown): Partial<StatusObject> & { code: status } {
  const details = isBug(error) ? 'internal error, see the log of the snapshotter' : (error as Error).message;
  const code = error instanceof CodedError ? (STATUS[error.code] ?? status.INTERNAL) : status.INTERNAL;
  return { code, details };
}
