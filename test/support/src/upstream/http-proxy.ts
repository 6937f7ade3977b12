import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import type { Test } from 'tap';

/** An HTTP proxy that knows CONNECT alone, as Squid does for TLS. `whereTo`: the host:port that it takes a name for; without it as named. */
export async function startHttpProxy(
  t: Test,
  accountOf?: () => string,
  whereTo: (named: string) => string = (named) => named,
): Promise<{ url: string; targets: string[] }> {
  const targets: string[] = [];
  const server: Server = createServer((_request, response) => response.writeHead(405).end());
  server.on('connect', (request, socket) => {
    socket.on('error', () => undefined);
    const account = accountOf?.();
    const wanted = account === undefined ? undefined : `Basic ${Buffer.from(account).toString('base64')}`;
    if (request.headers['proxy-authorization'] !== wanted) {
      socket.end('HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n');
      return;
    }
    targets.push(request.url!);
    const [host, port] = whereTo(request.url!).split(':');
    const behind = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      behind.pipe(socket).pipe(behind);
    });
    behind.on('error', () => socket.destroy());
    socket.on('close', () => behind.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, targets };
}
