#!/bin/sh
# One QoS 1 PUBLISH that the broker does not allow ends the publisher's connection again and again, without end:
# MQTT.js 5.10.1 with aedes 1.2.0 (npm).
#
# Most expect that such a message fails, and that everything else of that client goes on. But MQTT 3.1.1 has no PUBACK
# that says no, so a broker may close the connection instead (section 3.3.5; RabbitMQ and NATS do, too), and a client
# keeps what has no PUBACK and sends it again on the next connection (section 4.4). The promise of publishAsync never
# settles, whatever is published behind it never arrives, and a subscriber that publishes receipts does little but
# reconnect. Who publishes besides reading has to find the message and give it up himself.
#
# Needs Node.js 20 or newer and npm. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund aedes@1.2.0 mqtt@5.10.1 >/dev/null
cat >seen.js <<'JS'
const fs = require('node:fs')
const net = require('node:net')
const { Aedes } = require('aedes')
const mqtt = require('mqtt')

async function main () {
  const broker = await Aedes.createBroker()
  broker.authorizePublish = (client, packet, done) => {
    done(packet.topic === 'tracking/P.1/receipt' ? new Error('not allowed') : null)
  }
  const server = net.createServer(broker.handle)
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `mqtt://127.0.0.1:${server.address().port}`
  const arrived = []
  const tracker = await mqtt.connectAsync(url, { clientId: 'P002' })
  tracker.on('message', (topic) => arrived.push(topic))
  await tracker.subscribeAsync('tracking/+/receipt', { qos: 1 })
  const backend = await mqtt.connectAsync(url, { clientId: 'backend', clean: false, reconnectPeriod: 100 })
  let lost = 0
  let settled = 'neither accepted nor refused'
  backend.on('close', () => { lost++ })
  backend.publishAsync('tracking/P.1/receipt', 'stored', { qos: 1 }).then(
    () => { settled = 'accepted' }, (error) => { settled = `refused: ${error.message}` })
  backend.publishAsync('tracking/P002/receipt', 'stored', { qos: 1 }).catch(() => {})
  await new Promise((resolve) => setTimeout(resolve, 5000))
  console.log(`aedes ${JSON.parse(fs.readFileSync('node_modules/aedes/package.json')).version}, MQTT.js 5.10.1, after 5 s`)
  console.log('expected: the first receipt refused, the second one delivered, no connection lost, or one')
  console.log(`seen: the first ${settled}, delivered ${JSON.stringify(arrived)}, ${lost > 5 ? 'more than 5' : lost} connections lost`)
  process.exit(lost > 5 && settled.startsWith('neither') && arrived.length === 0 ? 0 : 1)
}

main()
JS
timeout 60 node seen.js
