#!/usr/bin/env python3
"""What a user would pick instead for speech: faster-whisper's calls, and whisper_streaming's captions on it. Run by speech.py.

    speech_peers.py calls WEIGHTS SOUND.wav --from 2 --secs 2,5,11 --repeat 3
    speech_peers.py captions WEIGHTS SOUND.wav
    speech_peers.py words WEIGHTS SOUND.wav

WEIGHTS: a folder with a CTranslate2 Whisper model; SOUND: 16 kHz mono. int8, one thread, English, as eyewitness runs. One JSON
line each. Needs numpy, soundfile and faster-whisper 1.2; `captions` also `pip install --no-deps whisperlivekit==0.1.2` (MIT), which
carries whisper_streaming's processor (ufal/whisper_streaming, MIT) as a package; without a window, server or torch of its own.
`words` prints the words with their times: another opinion on when they end.
"""

import argparse
import importlib
import importlib.util
import json
import resource
import sys
import time
import types


def cpu():
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


def load(weights):
    from faster_whisper import WhisperModel

    return WhisperModel(weights, device="cpu", compute_type="int8", cpu_threads=1)


def sound_of(path):
    import soundfile

    samples, rate = soundfile.read(path, dtype="float32")
    if rate != 16_000 or samples.ndim != 1:
        sys.exit(f"{path}: give 16 kHz mono")
    return samples


def calls(args, model, sound):
    """Greedy, no fallback to higher temperatures: the cheapest way to call it."""

    def call(secs):
        begin = int(args.begin * 16_000)
        piece = sound[begin : begin + int(secs * 16_000)]
        before = cpu()
        found = model.transcribe(piece, language="en", beam_size=1, temperature=0.0, condition_on_previous_text=False)
        text = " ".join(segment.text for segment in found[0])
        return cpu() - before, text.strip()

    lengths = [float(secs) for secs in args.secs.split(",")]
    call(lengths[0])
    for secs in lengths:
        found = [call(secs) for _ in range(args.repeat)]
        print(json.dumps({"model": "faster-whisper int8", "secs": secs, "cpu_s": [c for c, _ in found], "text": found[-1][1]}))


def processor():
    """whisper_streaming's OnlineASRProcessor, without what its package imports for servers."""
    spec = importlib.util.find_spec("whisperlivekit")
    if spec is None:
        sys.exit("whisperlivekit 0.1.2 is not installed")
    package = types.ModuleType("whisperlivekit")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["whisperlivekit"] = package
    return importlib.import_module("whisperlivekit.whisper_streaming_custom.online_asr").OnlineASRProcessor


class FasterWhisper:
    """What whisper_streaming's FasterWhisperASR does; that one cannot be told to use int8."""

    sep = ""

    def __init__(self, model):
        self.model = model
        self.token = importlib.import_module("whisperlivekit.timed_objects").ASRToken

    def transcribe(self, audio, init_prompt=""):
        segments, _ = self.model.transcribe(
            audio, language="en", initial_prompt=init_prompt, beam_size=5, word_timestamps=True, condition_on_previous_text=True
        )
        return list(segments)

    def ts_words(self, segments):
        kept = [segment for segment in segments if segment.no_speech_prob <= 0.9]
        return [self.token(w.start, w.end, w.word, probability=w.probability) for segment in kept for w in segment.words]

    def segments_end_ts(self, segments):
        return [segment.end for segment in segments]


def captions(args, model, sound):
    """whisper_streaming's own loop in real time: at least a second of new sound, then all that has come by now."""
    made = processor()(FasterWhisper(model))
    made.asr.transcribe(sound[:32_000])
    length = len(sound) / 16_000
    began, before, until = time.time(), cpu(), 0.0
    n_calls, words = 0, []
    while until < length:
        wait = args.chunk - (time.time() - began - until)
        if wait > 0:
            time.sleep(wait)
        since, until = until, min(time.time() - began, length)
        made.insert_audio_chunk(sound[int(since * 16_000) : int(until * 16_000)])
        n_calls += 1
        committed = made.process_iter()
        words += [{"text": w.text.strip(), "end": w.end, "stable_at": time.time() - began} for w in committed]
    spent = cpu() - before
    words += [{"text": w.text.strip(), "end": w.end, "stable_at": time.time() - began} for w in made.transcript_buffer.buffer]
    print(json.dumps({"secs": length, "cpu_s": spent, "calls": n_calls, "words": words}))


def words(args, model, sound):
    segments, _ = model.transcribe(sound, language="en", beam_size=5, word_timestamps=True)
    found = [{"text": w.word.strip(), "start": float(w.start), "end": float(w.end)} for s in segments for w in s.words]
    print(json.dumps({"words": found}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["calls", "captions", "words"])
    parser.add_argument("weights")
    parser.add_argument("sound")
    parser.add_argument("--from", dest="begin", type=float, default=0.0, help="where calls begin, in seconds")
    parser.add_argument("--secs", default="2,5,11")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--chunk", type=float, default=1.0, help="least new sound of a round of captions, in seconds")
    args = parser.parse_args()
    {"calls": calls, "captions": captions, "words": words}[args.what](args, load(args.weights), sound_of(args.sound))


if __name__ == "__main__":
    main()
