import { type OnReadOpts, Socket } from 'node:net';
import { giveBack, READ_BUFFER } from '@sepia/base/chunk';

/** Reads into the shared buffer and tells `data` of what came: lent until the event ends. */
export function sharedRead(socketOf: () => Socket): OnReadOpts {
  return {
    buffer: READ_BUFFER,
    callback: (count) => {
      socketOf().emit('data', READ_BUFFER.subarray(0, count));
      return true;
    },
  };
}

/** What Node keeps in an accepted socket and has no public name for. */
interface Inside {
  _handle?: object | null;
  _server?: object | null;
  server?: object | null;
}

/**
 * A socket of a server with `pauseOnConnect` that reads into the shared buffer, as dialled ones do: Node offers that for
 * new sockets alone, so a new one takes over the connection. Where Node's inside is another than is known here, `given`
 * itself comes back, resumed; a chunk of its `data` is lent to those who listen before `listenersAreOn` is called.
 */
export function acceptShared(given: Socket): {
  readonly socket: Socket;
  readonly listenersAreOn: () => void;
} {
  const taken = takeOver(given);
  if (taken !== undefined) return { socket: taken, listenersAreOn: () => undefined };
  given.resume();
  return { socket: given, listenersAreOn: () => given.on('data', giveBack) };
}

function takeOver(given: Socket): Socket | undefined {
  const inside = given as unknown as Inside;
  const { _handle: handle, _server: server } = inside;
  if (handle === undefined || handle === null || server === undefined || server === null) return undefined;
  if (!('useUserBuffer' in handle) || given.readableLength > 0) return undefined;
  // From here on the connection is the new socket's: the old one has nothing to close and is not counted.
  inside._handle = null;
  inside._server = null;
  const options = { handle, allowHalfOpen: false, onread: sharedRead(() => socket) };
  const socket: Socket = new Socket(options as ConstructorParameters<typeof Socket>[0]);
  const fresh = socket as unknown as Inside;
  fresh._server = server;
  fresh.server = server;
  return socket;
}
