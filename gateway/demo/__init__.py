"""The demo transcriber: a real, small speech-to-text server, so that a gateway has something true to stand in front of.

The server speaks HTTP. The workshop, a second process, holds the model and forks one recogniser a job, so that the
event loop never waits for speech, jobs share the model's memory, each starts from the same state (the same audio gives
the same words), and hostile bytes are parsed where they can hurt nobody else::

    client --HTTP, WebSocket--> transcriber --socket--> recogniser (a fork of the workshop, one a job)

=============  ================================================================================
transcriber    the command: ``python -m gateway.demo.transcriber``; the application and its life
openai_api     transcriptions and translations, server-sent events, models
deepgram_api   ``/v1/listen``, both POST and WebSocket
uploads        bodies and forms, with a bound
recordings     from an upload to its transcript
problems       what may go wrong, in the words and the dialect of the caller
formats        a transcript as json, verbose_json, text, srt and vtt
transcript     the nouns: Word, Utterance, Transcript
-------------  --------------------------------------------------------------------------------
workshop       the process that holds the model, and the sessions with its recognisers
messages       what server and recogniser say to each other
dictation      from a job's bytes to its messages
recogniser     PocketSphinx
utterances     where speech begins and ends
settling       which words of a growing hypothesis will not change any more
wav, pcm       containers and sample formats; ``resample`` brings them to 16 kHz
-------------  --------------------------------------------------------------------------------
samples        the clips in ``audio/``, with the words that are spoken in them
=============  ================================================================================

It has no accounts and reads no credential: the gateway in front does. It is English only, and no match for Whisper.
"""
