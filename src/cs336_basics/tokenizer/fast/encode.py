"""Text to ids, fast."""
from collections.abc import Mapping, Sequence
from typing import Any, Final
import numpy as np
from cs336_basics.tokenizer.fast import spans
from cs336_basics.tokenizer.fast.merging import Rules

_DATA = bytes.__basicsize__ - 1

def aligned(n):
    x=(np.zeros if not EMPTY else np.empty)(n+16,np.int64)
    s=-x.ctypes.data%128//8
    x=x[s:s+n]
    if EMPTY: x[:]=0
    return x
EMPTY=False
class Workspace:
    def __init__(self, rules, byte_ids, id_bytes, short_bits=17, long_bits=16, arena_bytes=8<<20):
        self.keep = [rules, byte_ids, rules.new_ranks(), aligned((1<<short_bits)*16), np.zeros((1<<long_bits)*4, np.int64), np.empty(arena_bytes//8,np.int64), np.zeros(spans.scratch_bytes(8192)//8+1,np.int64)]
        a = [x.ctypes.data for x in self.keep[1:]]
        self.state = np.zeros(spans.N_WORDS, np.int64)
        def put(w,v): self.state[w//8]=v
        put(spans.RULES, rules.rules.ctypes.data); put(spans.RULES_TABLE, rules.table.ctypes.data); put(spans.SHORT_MERGES, 64 if rules.in_order else 0); put(spans.RULES_SHIFT, rules.shift); put(spans.RANKS,a[1]); put(spans.N_RULES,rules.n_rules)
        put(spans.BYTE_IDS,a[0]); put(spans.ID_BYTES,id_bytes)
        put(spans.SHORT,a[2]); put(spans.SHORT_SHIFT,64-short_bits); put(spans.LONG,a[3]); put(spans.LONG_SHIFT,64-long_bits)
        put(spans.ARENA,a[4]); put(spans.ARENA_END,a[4]+arena_bytes); put(spans.ARENA_FREE,a[4]); put(spans.SCRATCH,a[5]); put(spans.LONGEST,8192)
        self.out = np.empty(8192, np.uint16 if id_bytes==2 else np.uint32)
        self.address = self.state.ctypes.data; self.out_address=self.out.ctypes.data

class FastCodec:
    def __init__(self, vocab, merges, **kw):
        ids={t:i for i,t in vocab.items()}
        self.rules=Rules([(ids[l],ids[r],ids[l+r]) for l,r in merges])
        self.byte_ids=np.array([ids[bytes([b])] for b in range(256)],np.int32)
        self.id_bytes=2 if len(vocab)<=1<<16 else 4
        self.dtype=np.uint16 if self.id_bytes==2 else np.uint32
        self.kw=kw
        self.free=[]
        self.ints=np.arange(len(vocab)).astype(object)
    def new(self): return Workspace(self.rules,self.byte_ids,self.id_bytes,**self.kw)
    def encode_array(self, text):
        b = text.encode() if isinstance(text,str) else text
        ws = self.free.pop() if self.free else self.new()
        out = np.empty(len(b)+16, self.dtype)
        a = out.ctypes.data
        n = (spans.encode_span(ws.address, id(b)+_DATA, 0, len(b), a)-a)//self.id_bytes
        self.free.append(ws)
        out.resize(n, refcheck=False)
        return out
    def encode(self, text):
        b = text.encode()
        if len(b) > 8000: return self.ints[self.encode_array(b)].tolist()
        try: ws = self.free.pop()
        except IndexError: ws = self.new()
        a = ws.out_address
        n = (spans.encode_span(ws.address, id(b)+_DATA, 0, len(b), a)-a)//self.id_bytes
        ids = ws.out[:n].tolist()
        self.free.append(ws)
        return ids
