// A snapshot that was changed anywhere is refused, with its place; it is never read as another one.

import Testing
import UkehiBase
import UkehiState

@Suite("Snapshots: damage")
struct SnapshotDamageTests {
    private let bytes: [UInt8]
    private let parts: RawSnapshot

    init() throws {
        bytes = try Sample.snapshot(Sample.pairs(30), frameBytes: 512)
        parts = RawSnapshot(bytes)
    }

    @Test("each byte changed, in three ways each")
    func everyByte() throws {
        for position in bytes.indices {
            for mask: UInt8 in [0x01, 0x80, 0xff] {
                var changed = bytes
                changed[position] ^= mask
                let failure = try #require(Sample.failure(changed), "byte \(position)")
                #expect(failure.code == .damaged || failure.code == .truncated)
                #expect(failure.offset != nil)
            }
        }
    }

    @Test("each beginning of it")
    func everyPrefix() throws {
        for count in bytes.indices {
            let failure = try #require(Sample.failure(Array(bytes[..<count])), "\(count) bytes")
            #expect(failure.code == .truncated, "\(count) bytes: \(failure)")
        }
    }

    @Test("bytes behind its end, and a file that shrinks while it is read")
    func ends() throws {
        #expect(Sample.failure(bytes + [0])?.code == .damaged)
        #expect(Sample.failure(bytes + bytes)?.code == .damaged)
        let file = MemoryFile(Array(bytes[..<(bytes.count - 60)]))
        file.claimedSize = UInt64(bytes.count)
        #expect(throws: SnapshotError.self) {
            let reader = try SnapshotFileReader(file)
            while try reader.next() != nil {}
        }
    }

    @Test(
        "frames in another order, twice, left out, or of another snapshot; even with a right footer"
    )
    func frames() throws {
        #expect(parts.frames.count >= 4)
        var other = Sample.header()
        other.snapshot += 1
        let donor = RawSnapshot(try Sample.snapshot(Sample.pairs(30), other, frameBytes: 512))
        let changes: [(String, (inout RawSnapshot) -> Void)] = [
            ("order", { $0.frames.swapAt(1, 2) }),
            ("twice", { $0.frames.insert($0.frames[1], at: 2) }),
            ("left out", { $0.frames.remove(at: 1) }),
            ("the first", { $0.frames.removeFirst() }),
            ("the last", { $0.frames.removeLast() }),
            ("all", { $0.frames = [] }),
            ("another's frame", { $0.frames[1] = donor.frames[1] }),
            ("another's header", { $0.header = donor.header }),
            ("another's footer", { $0.footer = donor.footer }),
            ("no footer", { $0.footer = [] }),
        ]
        for (name, change) in changes {
            var changed = parts
            change(&changed)
            #expect(Sample.failure(changed.bytes) != nil, "\(name)")
        }
        // A writer with bad intentions: right checksums, the frames' numbers as they were.
        for (name, change) in changes[..<6] {
            var changed = parts
            change(&changed)
            changed.repair()
            if name == "the last" { continue }  // Nothing tells that there was more.
            #expect(Sample.failure(changed.bytes)?.code == .damaged, "\(name), repaired")
        }
    }

    @Test("a frame tells its number and offset, and what is wrong")
    func places() throws {
        var changed = parts
        changed.frames[2].stored[20] ^= 4
        let failure = try #require(Sample.failure(changed.bytes))
        let offset =
            parts.header.count + (0..<2).reduce(0) { $0 + 40 + parts.frames[$1].stored.count }
        #expect(failure.frame == 2)
        #expect(failure.offset == UInt64(offset))
        #expect(failure.description.contains("(frame 2, offset \(offset))"))
        changed = parts
        changed.frames.swapAt(1, 2)
        #expect(
            Sample.failure(changed.bytes)?.message.contains("frame 2 stands where frame 1 belongs")
                == true)
    }

    @Test("a report tells which frames are lost, and from where on nothing can be read")
    func report() throws {
        let sound = SnapshotReport.verify(MemoryFile(bytes))
        #expect(sound.problem == nil && sound.lostFrames.isEmpty && sound.lostFrom == nil)
        #expect(sound.soundFrames == UInt64(parts.frames.count) && sound.soundPairs == 30)
        #expect(sound.state == Sample.state && sound.header == Sample.header())

        var changed = parts
        for position in [0, 2] { changed.frames[position].stored[12] ^= 1 }
        let twoFrames = SnapshotReport.verify(MemoryFile(changed.bytes))
        #expect(twoFrames.problem?.frame == 0)
        #expect(twoFrames.lostFrames.map(\.number) == [0, 2])
        #expect(
            twoFrames.lostFrames.map { UInt32($0.records) }
                == [0, 2].map { RawSnapshot.u32(parts.frames[$0].header, 24) })
        #expect(twoFrames.lostFrom == nil)

        changed = parts
        changed.frames[1].header[9] ^= 1
        let rest = SnapshotReport.verify(MemoryFile(changed.bytes))
        #expect(rest.problem?.frame == 1 && rest.lostFrom == 1 && rest.soundFrames == 1)

        let cut = SnapshotReport.verify(MemoryFile(Array(bytes.dropLast(1))))
        #expect(cut.problem?.code == .truncated)
        #expect(cut.lostFrom == UInt64(parts.frames.count))
        #expect(SnapshotReport.verify(MemoryFile([])).lostFrom == 0)
    }
}
