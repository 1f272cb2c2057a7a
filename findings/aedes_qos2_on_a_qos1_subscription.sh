#!/bin/sh
# aedes 1.2.0 (npm) grants a subscription QoS 1, and then delivers at QoS 2 what was published at QoS 2.
#
# Most expect the smaller of both, as MQTT says (3.1.1 and 5, section 3.8.4) and as mosquitto and others do: one PUBLISH
# at QoS 1, answered with PUBACK. So a subscriber that has only ever asked for QoS 1 must speak the handshake of QoS 2
# here, and one that promises to acknowledge after it has stored has to keep back PUBREC as it keeps back PUBACK: client
# libraries send PUBREC by themselves, at once.
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
  const server = net.createServer(broker.handle)
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `mqtt://127.0.0.1:${server.address().port}`
  const subscriber = await mqtt.connectAsync(url, { clientId: 'backend', clean: false })
  const delivered = new Promise((resolve) => {
    subscriber.on('packetreceive', (packet) => { if (packet.cmd === 'publish') resolve(packet.qos) })
  })
  const [{ qos: granted }] = await subscriber.subscribeAsync('tracking/+/position', { qos: 1 })
  const tracker = await mqtt.connectAsync(url, { clientId: 'P001' })
  await tracker.publishAsync('tracking/P001/position', '{"latitude": 47.5}', { qos: 2 })
  const qos = await delivered
  console.log(`aedes ${JSON.parse(fs.readFileSync('node_modules/aedes/package.json')).version}`)
  console.log(`granted QoS ${granted}, published at QoS 2; expected: delivered at QoS 1; seen: QoS ${qos}`)
  process.exit(granted === 1 && qos === 2 ? 0 : 1)
}

main()
JS
timeout 60 node seen.js
