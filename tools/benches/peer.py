"""What a plant would write itself: MQTT in, llama-server over HTTP, MQTT out. The peer to beat.

A script of an afternoon, but a good one: one thread reads the broker, as many workers as the server
has slots, each with a connection of its own that stays open, TCP_NODELAY everywhere, the prompt's
fixed part kept by the server, a grammar for the answer. It keeps nothing on disk, so what it had is
lost with it; it knows no deadlines, priorities or duplicates.

    python peer.py SETTINGS.json    # "ready" on standard output once it is subscribed

SETTINGS: broker_port, server_port, workers, head, tail, grammar, max_tokens.
"""

import http.client
import json
import queue
import socket
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.packettypes import PacketTypes

TOPIC = "peer/request/#"


class Server:
    """A connection to llama-server that stays open; opened again when the server closes it."""

    def __init__(self, settings):
        self.line = http.client.HTTPConnection("127.0.0.1", settings["server_port"])
        self.head, self.tail = settings["head"], settings["tail"]
        self.asked = {
            "grammar": settings["grammar"],
            "n_predict": settings["max_tokens"],
            "temperature": 0,
            "cache_prompt": True,
            "response_fields": ["content"],
        }

    def answer(self, text):
        body = json.dumps({**self.asked, "prompt": self.head + text + self.tail})
        try:
            return self._post(body)
        except (http.client.RemoteDisconnected, ConnectionError):
            self.line.close()
            return self._post(body)

    def _post(self, body):
        self.line.request("POST", "/completion", body.encode(), {"Content-Type": "application/json"})
        response = self.line.getresponse()
        told = response.read()
        if response.status != 200:
            raise RuntimeError(told.decode())
        return json.loads(told)["content"]


def work(settings, client, waiting):
    """One worker: takes a message, asks, replies."""
    server = Server(settings)
    while True:
        message = waiting.get()
        request = json.loads(message.payload)
        text = server.answer(request["input"])
        reply = json.dumps({"id": request["id"], "status": "answered", "text": text})
        properties = Properties(PacketTypes.PUBLISH)
        correlation = getattr(message.properties, "CorrelationData", None)
        if correlation is not None:
            properties.CorrelationData = correlation
        client.publish(message.properties.ResponseTopic, reply, qos=1, properties=properties)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    waiting = queue.SimpleQueue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="peer", protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(1000)
    client.on_socket_open = lambda _client, _data, line: line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.on_connect = lambda client, *_: client.subscribe(TOPIC, qos=1)
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.on_message = lambda _client, _data, message: waiting.put(message)
    for _ in range(settings["workers"]):
        threading.Thread(target=work, args=(settings, client, waiting), daemon=True).start()
    client.connect("127.0.0.1", settings["broker_port"])
    client.loop_forever()


main()
