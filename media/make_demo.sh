#!/bin/sh
# Makes the bundled clip media/demo.mp4 from the recordings named in media/README.md. Needs ffmpeg 5 or newer with libx264.
# The pictures are the first 400 frames of VTEST, in order and at 10 frames a second: frame i (from 0) is frame i of VTEST.
# Encoded as a camera would: one slice type after the other (no B frames), a key frame every 2 s, one sound channel.
# One thread and the bitexact flags make the same inputs give the same file with the same ffmpeg.
set -eu

if [ $# -ne 4 ]; then
    echo "usage: $0 VTEST.AVI JFK.WAV LIBRIVOX_FOLDER OUT.MP4" >&2
    exit 2
fi
vtest=$1 jfk=$2 book=$3/sense_and_sensibility_01_austen_64kb out=$4

# Start times in milliseconds; demo_speech.json says the same.
ffmpeg -v error -y -i "$vtest" -i "$jfk" -i "$book-0870.wav" -i "$book-0880.wav" -i "$book-0890.wav" -i "$book-0930.wav" \
    -filter_complex "
        [0:v]trim=end_frame=400,settb=1/10,setpts=N[pictures];
        [1:a]aresample=48000,adelay=2000[a1];
        [2:a]aresample=48000,adelay=15000[a2];
        [3:a]aresample=48000,adelay=23500[a3];
        [4:a]aresample=48000,adelay=28000[a4];
        [5:a]aresample=48000,adelay=35000[a5];
        [a1][a2][a3][a4][a5]amix=inputs=5:normalize=0:duration=longest,apad,atrim=end=40[sound]" \
    -map "[pictures]" -map "[sound]" -fps_mode passthrough \
    -c:v libx264 -preset slow -crf 26 -threads 1 -pix_fmt yuv420p -g 20 -keyint_min 20 -sc_threshold 0 -bf 0 \
    -bsf:v filter_units=remove_types=6 \
    -c:a aac -b:a 64k -ac 1 \
    -map_metadata -1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact -movflags +faststart \
    "$out"
