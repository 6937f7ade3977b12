import t from 'tap';
import { parseProxy, proxyEnvironment, proxyFor } from '../../src/core/proxy-choice.ts';

const PROXY = 'http://proxy.corp.example:3128';

t.test('the variables, in both spellings', async (t) => {
  t.same(proxyEnvironment({ HTTPS_PROXY: 'a', https_proxy: 'b', no_proxy: ' ', HTTP_PROXY: '' }), {
    http: undefined,
    https: 'b',
    none: undefined,
  });
  t.equal(proxyFor(new URL('https://r.example'), proxyEnvironment({ HTTPS_PROXY: PROXY })), PROXY);
  t.equal(proxyFor(new URL('http://r.example'), proxyEnvironment({ HTTPS_PROXY: PROXY })), undefined);
  t.equal(proxyFor(new URL('http://r.example'), proxyEnvironment({ http_proxy: PROXY })), PROXY);
});

t.test('NO_PROXY names hosts, domains, ports, addresses and networks', async (t) => {
  const cases: readonly (readonly [none: string, url: string, isProxied: boolean])[] = [
    ['', 'https://r.example', true],
    ['*', 'https://r.example', false],
    ['example', 'https://r.example', false],
    ['r.example', 'https://r.example', false],
    ['r.example', 'https://sub.r.example', false],
    ['r.example', 'https://other-r.example', true],
    ['.r.example', 'https://r.example', true],
    ['.r.example', 'https://sub.r.example', false],
    ['*.r.example', 'https://sub.r.example', false],
    ['a.example, R.EXAMPLE ,b.example', 'https://r.example', false],
    ['a.example r.example', 'https://r.example', false],
    ['r.example:443', 'https://r.example', false],
    ['r.example:5000', 'https://r.example', true],
    ['r.example:5000', 'https://r.example:5000', false],
    ['10.1.2.3', 'https://10.1.2.3', false],
    ['10.1.2.3:5000', 'https://10.1.2.3:5000', false],
    ['10.1.2.3:5000', 'https://10.1.2.3', true],
    ['10.0.0.0/8', 'https://10.1.2.3:5000', false],
    ['10.0.0.0/8', 'https://11.1.2.3', true],
    ['10.0.0.0/8', 'https://r.example', true],
    ['fd00::/8', 'https://[fd00::1]', false],
    ['fd00::1', 'https://[fd00::1]', false],
    ['[fd00::1]', 'https://[fd00:0::1]:5000', false],
    ['[fd00::1]:5000', 'https://[fd00::1]:5000', false],
    ['[fd00::1]:5000', 'https://[fd00::1]', true],
    ['r.example', 'https://10.1.2.3', true],
    ['.3', 'https://10.1.2.3', true],
    [':443', 'https://r.example', true],
    ['r.example:https', 'https://r.example', true],
    ['nonsense/99, ,,', 'https://r.example', true],
    ['', 'https://localhost:5000', false],
    ['', 'https://127.0.0.1', false],
    ['', 'https://[::1]:5000', false],
    ['', 'https://2130706433', false],
  ];
  for (const [none, url, isProxied] of cases) {
    const env = proxyEnvironment({ HTTPS_PROXY: PROXY, NO_PROXY: none });
    t.equal(proxyFor(new URL(url), env), isProxied ? PROXY : undefined, `NO_PROXY=${none} ${url}`);
  }
});

t.test('the address of a proxy', async (t) => {
  t.equal(parseProxy('proxy.corp.example:3128')?.href, 'http://proxy.corp.example:3128/');
  t.equal(parseProxy('http://u:p@proxy.corp.example')?.username, 'u');
  t.equal(parseProxy('socks5://proxy.corp.example'), undefined);
  t.equal(parseProxy('http://'), undefined);
  t.equal(parseProxy('http://u:50%25off@proxy.corp.example')?.password, '50%25off');
  t.equal(parseProxy('http://u:50%off@proxy.corp.example'), undefined, 'a password that is not encoded');
});
