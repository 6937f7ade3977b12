import t from 'tap';
import { hostOf } from '../../src/names/host-of.ts';

t.test('a host is an IPv4 address, however it is written, or an IPv6 /64', async (t) => {
  t.equal(hostOf('10.0.0.1'), '10.0.0.1');
  t.equal(hostOf('::ffff:10.0.0.1'), '10.0.0.1');
  t.equal(hostOf('2001:db8:1:2:3:4:5:6'), hostOf('2001:0DB8:1:2::9'));
  t.not(hostOf('2001:db8:1:2::1'), hostOf('2001:db8:1:3::1'));
  t.equal(hostOf('::1'), hostOf('::2'));
  t.equal(hostOf('fe80::1%eth0'), hostOf('fe80::2'));
});
