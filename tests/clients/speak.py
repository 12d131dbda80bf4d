#!/usr/bin/env python3
"""Sends a WAV file (16 kHz, one channel, 16 bits) to `/v1/transcribe` as a microphone would, and reads what comes back.

Writes one JSON line for each answer: `{"sent_secs", "message"}`: so much of the sound had been sent when it came; then
`{"closed", "reason"}`. At `--hold` seconds nothing more is sent until an answer has come, so that it is certain that words
come while people still speak.
"""
import argparse
import json
import sys
import threading
import time
import wave

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

CHUNK_SECS = 0.1


def tell(**what):
    print(json.dumps(what), flush=True)


class Session:
    def __init__(self, socket):
        self.socket = socket
        self.sent_secs = 0.0
        self.answered = threading.Event()

    def read(self):
        try:
            while True:
                message = json.loads(self.socket.recv(timeout=120))
                tell(sent_secs=self.sent_secs, message=message)
                self.answered.set()
        except ConnectionClosed as closed:
            received = closed.rcvd
            tell(closed=received.code if received else None, reason=received.reason if received else "")
        finally:
            self.answered.set()

    def speak(self, sound, hold, speed):
        while chunk := sound.readframes(int(CHUNK_SECS * sound.getframerate())):
            self.socket.send(chunk)
            if self.sent_secs < hold <= self.sent_secs + CHUNK_SECS:
                self.answered.wait(timeout=120)
            self.sent_secs = round(self.sent_secs + CHUNK_SECS, 3)
            time.sleep(CHUNK_SECS / speed)
        self.socket.send('{"type":"end"}')


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("sound")
    parser.add_argument("--hold", type=float, default=0.0, help="seconds of sound")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times as fast as spoken")
    options = parser.parse_args()
    with connect(options.url, max_size=None) as socket, wave.open(options.sound) as sound:
        session = Session(socket)
        reader = threading.Thread(target=session.read)
        reader.start()
        try:
            session.speak(sound, options.hold, options.speed)
        except ConnectionClosed:
            pass  # The reader tells why.
        reader.join()


if __name__ == "__main__":
    sys.exit(main())
