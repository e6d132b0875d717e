import Testing
import UkehiBase
import UkehiNode

@testable import UkehiTransport

/// Frames out of byte streams, however they are cut or damaged.
@Suite("Frames")
struct FrameTests {
    /// All frames of a stream that arrives in pieces of `step` bytes.
    private func assemble(
        _ stream: [UInt8], step: Int, maxPayload: Int = 1 << 20
    ) throws(WireError) -> (frames: [Frame], isInside: Bool) {
        var assembler = FrameAssembler()
        var frames: [Frame] = []
        var start = 0
        while start < stream.count {
            let piece = Bytes(Array(stream[start..<min(start + step, stream.count)]))
            try piece.withUnsafeBytes { (raw) throws(WireError) in
                var input = raw
                while let frame = try assembler.next(&input, maxPayload: maxPayload) {
                    frames.append(frame)
                }
                #expect(input.isEmpty)
            }
            start += step
            #expect(assembler.heldBytes <= max(16 << 10, 2 * start))
        }
        return (frames, assembler.isInsideFrame)
    }

    @Test(
        "arrive whole, in pieces and byte by byte", arguments: [1, 2, 5, 11, 12, 13, 100, 70_000])
    func roundTrip(step: Int) throws {
        var random = SeededRandom(1)
        let payloads = [0, 1, 11, 12, 13, 500, 20_000, 0, 66_000].map { random.bytes($0) }
        let stream = payloads.flatMap { frameBytes(.messages, $0) }
        let (frames, isInside) = try assemble(stream, step: step)
        #expect(frames.map(\.payload) == payloads)
        #expect(frames.allSatisfy { $0.type == .messages })
        #expect(!isInside)
    }

    @Test("the bytes of version 1 stay what they are")
    func golden() {
        #expect(
            frameBytes(.requests, Bytes([1, 2, 3]))
                == [3, 0, 0, 0] + goldenChecksum + [6, 0, 0, 0] + [1, 2, 3])
        let hello = Hello(
            name: "n", address: "h:1", incarnation: Incarnation(5),
            cluster: ClusterID(high: 6, low: 7), node: NodeID(8))
        let expected: [UInt8] =
            Array("UKEHIWIR".utf8) + [1, 0, 1, 0] + [2, 3, 0, 0]
            + [5, 0, 0, 0, 0, 0, 0, 0] + [6, 0, 0, 0, 0, 0, 0, 0] + [7, 0, 0, 0, 0, 0, 0, 0]
            + [8, 0, 0, 0, 0, 0, 0, 0] + [1, 0] + Array("n".utf8) + [3, 0] + Array("h:1".utf8)
        #expect(Greeting(purpose: .bulk, hello: hello).encode().array == expected)
        // A recovery leaves its mark behind the node.
        var recovered = hello
        recovered.generation = 9
        var marked = expected
        marked[13] = 7
        marked.insert(contentsOf: [9, 0, 0, 0, 0, 0, 0, 0], at: 48)
        let greeting = Greeting(purpose: .bulk, hello: recovered)
        #expect(greeting.encode().array == marked)
        #expect((try? Greeting(decoding: greeting.encode()))?.hello == recovered)
    }

    /// CRC32C of 03 00 00 00 06 00 00 00 01 02 03, computed elsewhere.
    private let goldenChecksum: [UInt8] = [0x6f, 0x15, 0x1d, 0xf2]

    @Test("a flip of any bit is never taken for a frame")
    func flips() {
        let sound = frameBytes(.requests, Bytes([1, 2, 3, 4, 5, 6, 7]))
        for bit in 0..<sound.count * 8 {
            var bad = sound
            bad[bit / 8] ^= 1 << UInt8(bit % 8)
            // A longer length leaves the frame unfinished; everything else is an error.
            let frames = (try? assemble(bad, step: bad.count))?.frames ?? []
            #expect(frames.isEmpty, "bit \(bit)")
        }
    }

    @Test(
        "claimed lengths allocate nothing",
        arguments: [UInt32(1) << 20, (1 << 20) + 1, 1 << 31, .max])
    func lies(length: UInt32) throws {
        var bad = frameBytes(.messages, Bytes([1, 2, 3]))
        withUnsafeBytes(of: length.littleEndian) { bad.replaceSubrange(0..<4, with: $0) }
        if length <= 1 << 20 {
            let (frames, isInside) = try assemble(bad, step: 3)
            #expect(frames.isEmpty && isInside)
        } else {
            #expect {
                try assemble(bad, step: 3)
            } throws: { ($0 as? WireError)?.kind == .oversize }
        }
    }

    @Test("random bytes never trap")
    func noise() {
        var random = SeededRandom(2)
        for round in 0..<20_000 {
            var noise = random.bytes(Int.random(in: 0...64, using: &random)).array
            // Half of them get past the length check.
            if round % 2 == 0, noise.count > 4 {
                noise[2] = 0
                noise[3] = 0
            }
            _ = try? assemble(noise, step: Int.random(in: 1...64, using: &random))
        }
    }
}
