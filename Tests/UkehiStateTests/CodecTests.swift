// Command records and entries: round trips, limits, and bytes that nobody should have sent.

import Testing
import UkehiBase
import UkehiState

private func sampleCommands(_ count: Int, seed: UInt64) -> [Command] {
    let twin = NaiveRegion(range: .all, epoch: RegionEpoch(confVersion: 1, version: 1))
    var workload = Workload(seed: seed, prefix: "k")
    return (0..<count).map { _ in workload.command(twin) }
}

@Suite("command records")
struct CommandRecordTests {
    @Test("what is encoded is decoded, and its key is found")
    func roundTrip() throws {
        for command in sampleCommands(2000, seed: 1) {
            let record = try command.encoded()
            #expect(try CommandRecord.validate(record) == command.key)
            #expect(try CommandRecord.decode(record) == command)
        }
    }

    @Test("sessions and headers travel with any command")
    func options() throws {
        for command in sampleCommands(200, seed: 2) {
            let record = try command.encoded(
                options: CommandRecord.Options(session: (7, 9), header: "trace"))
            #expect(try CommandRecord.validate(record) == command.key)
            #expect(try CommandRecord.decode(record) == command)
            try record.withUnsafeBytes { bytes throws(CommandError) in
                let view = try CommandView(record: bytes)
                #expect(view.session == 7)
                #expect(view.sequence == 9)
                #expect(Bytes(copying: view.header) == "trace")
            }
        }
    }

    @Test("the pointer encoders write what the values write")
    func pointers() throws {
        let key = Bytes("key")
        let value = Bytes("value")
        var writer = ByteWriter()
        key.withUnsafeBytes { key in
            value.withUnsafeBytes { CommandRecord.appendPut(key: key, value: $0, to: &writer) }
        }
        #expect(writer.take() == (try Command.put(key: key, value: value).encoded()))
        key.withUnsafeBytes { CommandRecord.appendDelete(key: $0, to: &writer) }
        #expect(writer.take() == (try Command.delete(key: key).encoded()))
        key.withUnsafeBytes { key in
            value.withUnsafeBytes { CommandRecord.appendUser(key: key, body: $0, to: &writer) }
        }
        #expect(writer.take() == (try Command.user(key: key, body: value).encoded()))
    }

    @Test("limits are checked when encoding, and nothing is left in the writer")
    func limits() throws {
        let longKey = Bytes([UInt8](repeating: 1, count: CommandLimits.maxKeyBytes + 1))
        let large = Bytes([UInt8](repeating: 1, count: CommandLimits.maxValueBytes + 1))
        let full = large[0..<CommandLimits.maxValueBytes]
        let cases: [(Command, CommandError)] = [
            (.put(key: longKey, value: ""), .keyTooLong),
            (.put(key: "a", value: large), .valueTooLarge),
            (.deleteRange(lower: "b", upper: "b"), .emptyRange),
            (.deleteRange(lower: "b", upper: longKey), .keyTooLong),
            (.compareAndSet(key: "a", expected: .value(full), value: full), .recordTooLarge),
            (.batch([]), .badBatchSize),
            (.batch(Array(repeating: .delete(key: "a"), count: 1025)), .badBatchSize),
            (.batch([.batch([.delete(key: "a")])]), .unsupported),
            (.batch([.user(key: "a", body: "")]), .unsupported),
            (.batch([.put(key: "a", value: full), .put(key: "a", value: full)]), .recordTooLarge),
            (.check(key: "a", expected: .absent), .unsupported),
            (.put(key: "a", value: "", expiresAt: 0), .malformed),
        ]
        for (command, expected) in cases {
            var writer = ByteWriter()
            writer.append(UInt32(5))
            do {
                try command.encode(into: &writer)
                Issue.record("\(expected) was not found")
            } catch {
                #expect(error == expected)
                #expect(writer.count == 4)
            }
        }
        let largest = Command.put(key: longKey[0..<CommandLimits.maxKeyBytes], value: full)
        let record = try largest.encoded(
            options: CommandRecord.Options(
                session: (1, 1), header: longKey[0..<CommandLimits.maxHeaderBytes]))
        #expect(try CommandRecord.validate(record) == largest.key)
    }

    @Test("cut short, every record is refused")
    func truncated() throws {
        for command in sampleCommands(60, seed: 3) {
            let record = try command.encoded()
            for length in 0..<min(record.count, 300) {
                let cut = record[0..<length]
                #expect(throws: CommandError.self) { try CommandRecord.validate(cut) }
                // With a length that admits to the cut, it may be a shorter command but is checked.
                guard length >= 4 else { continue }
                var bytes = cut.array
                withUnsafeBytes(of: UInt32(length - 4).littleEndian) {
                    bytes.replaceSubrange(0..<4, with: $0)
                }
                expectCanonical(Bytes(bytes))
            }
        }
    }

    @Test("flipped bits are refused or mean another well-formed command")
    func flipped() throws {
        var dice = Dice(4)
        for command in sampleCommands(300, seed: 4) {
            let record = try command.encoded().array
            for _ in 0..<40 {
                var bytes = record
                for _ in 0...dice.roll(3) {
                    bytes[dice.roll(min(bytes.count, 64))] ^= 1 << UInt8(dice.roll(8))
                }
                expectCanonical(Bytes(bytes))
            }
        }
    }

    @Test("noise is refused or well formed")
    func noise() {
        var dice = Dice(5)
        for _ in 0..<5000 {
            var bytes = dice.bytes(4 + dice.roll(60)).array
            withUnsafeBytes(of: UInt32(bytes.count - 4).littleEndian) {
                bytes.replaceSubrange(0..<4, with: $0)
            }
            if bytes.count > 7 {
                bytes[4] = UInt8(dice.roll(10))
                bytes[5] = UInt8(dice.roll(9))
                bytes[6] = UInt8(dice.roll(20))
                bytes[7] = 0
            }
            expectCanonical(Bytes(bytes))
        }
    }

    /// Whatever validates has one encoding: decoding and encoding it gives the same bytes.
    private func expectCanonical(_ record: Bytes) {
        guard (try? CommandRecord.validate(record)) != nil else {
            #expect(throws: CommandError.self) { try CommandRecord.decode(record) }
            return
        }
        guard let command = try? CommandRecord.decode(record) else {
            Issue.record("a valid record was not decoded")
            return
        }
        guard record[5] & 0x03 == 0 else { return }
        #expect((try? command.encoded()) == record)
    }
}

@Suite("entry payloads")
struct EntryPayloadTests {
    private let epoch = RegionEpoch(confVersion: 3, version: 5)

    @Test("records come back as they were packed")
    func pack() throws {
        var packer = EntryPacker(chunkCapacity: 512)
        for round in 0..<20 {
            let records = try sampleCommands(1 + round * 3, seed: UInt64(round)).map {
                try $0.encoded()
            }
            packer.begin(epoch: epoch, time: 77)
            for record in records {
                let joined = packer.append(record)
                #expect(joined)
            }
            let byteCount = packer.byteCount
            #expect(byteCount == records.reduce(0) { $0 + $1.count })
            let payload = packer.finish()
            let header = try #require(try EntryPayload.header(of: payload))
            #expect(header.kind == .commands)
            #expect(header.count == records.count)
            #expect(header.loggedTime == 77)
            #expect(header.epoch == epoch)
            var found: [Bytes] = []
            payload.withUnsafeBytes { bytes in
                var walk = EntryRecords(header, in: bytes)
                while let record = walk.next() { found.append(Bytes(copying: record)) }
            }
            #expect(found == records)
            #expect(EntryPayload.admin(of: payload) == nil)
        }
    }

    @Test("an entry holds 256 commands and 1 MiB, or one larger command alone")
    func limits() throws {
        let small = try Command.delete(key: "a").encoded()
        let value = Bytes([UInt8](repeating: 7, count: 3 << 20))
        let large = try Command.put(key: "a", value: value).encoded()
        var packer = EntryPacker()
        /// How many of the records join one entry, and the entry's size.
        func pack(_ records: [Bytes]) -> [Int] {
            packer.begin(epoch: epoch, time: 0)
            var joined = 0
            for record in records where packer.append(record) { joined += 1 }
            return [joined, packer.finish().count]
        }
        #expect(pack(Array(repeating: small, count: 300)) == [256, 32 + 256 * small.count])
        #expect(pack([large, small]) == [1, 32 + large.count])
        #expect(pack([small, large, small]) == [2, 32 + 2 * small.count])
        packer.begin(epoch: epoch, time: 0)
        packer.append(small)
        packer.cancel()
        #expect(pack([small]) == [1, 32 + small.count])
    }

    @Test("administrative and time payloads")
    func others() throws {
        let admin = EntryPayload.encode(
            admin: .compactLog(upTo: LogIndex(99)), epoch: epoch, time: 5)
        #expect(EntryPayload.admin(of: admin) == .compactLog(upTo: LogIndex(99)))
        #expect(try EntryPayload.header(of: admin)?.loggedTime == 5)
        let time = EntryPayload.encode(time: 6, epoch: epoch)
        #expect(EntryPayload.admin(of: time) == nil)
        #expect(try EntryPayload.header(of: time)?.kind == .time)
        #expect(try EntryPayload.header(of: Bytes()) == nil)
        for length in 0..<admin.count {
            #expect(EntryPayload.admin(of: admin[0..<length]) == nil)
        }
    }

    @Test("cut, flipped and lying payloads are errors, never traps, and walks end")
    func hostile() throws {
        var dice = Dice(6)
        for seed in 0..<UInt64(200) {
            let good = try entry(sampleCommands(1 + dice.roll(5), seed: seed), index: 1).data
            for _ in 0..<30 {
                var bytes = good[0..<(1 + dice.roll(good.count))].array
                for _ in 0..<dice.roll(3) {
                    bytes[dice.roll(min(bytes.count, 80))] = UInt8(truncatingIfNeeded: dice.next())
                }
                if bytes.count > 8, dice.roll(2) == 0 { bytes[0] = 1 }
                Bytes(bytes).withUnsafeBytes { payload in
                    guard let header = try? EntryPayload(payload) else { return }
                    var walk = EntryRecords(header, in: payload)
                    var steps = 0
                    while let record = walk.next() {
                        _ = try? CommandView(record: record).checkBody()
                        steps += 1
                    }
                    #expect(steps <= payload.count / 4)
                }
            }
        }
    }
}
