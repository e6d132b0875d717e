import Testing
import UkehiBase

@testable import UkehiCommand

/// The files for independent checkers: their lines are a format.
@Suite("bench: ack log, history, input")
struct LogFileTests {
    @Test("an ack line has time, operation, key and digest")
    func ackLine() throws {
        let directory = try TemporaryDirectory()
        let writer = try ChunkWriter(path: directory.path + "/acks")
        var log = AckLog(writer: writer)
        let key = Array("a%\t\u{e9}z".utf8)
        let value = Array("a".utf8)
        key.withUnsafeBytes { key in
            value.withUnsafeBytes { log.note(at: 12345, operation: 0xAB, key: key, value: $0) }
            log.note(at: 12346, operation: 0xAC, key: key, value: nil)
        }
        log.flush(now: 0, always: true)
        try writer.finish()
        // FNV-1a of "a" by the algorithm's published test vectors.
        #expect(
            try directory.text("acks")
                == "12345\t00000000000000ab\ta%25%09%C3%A9z\taf63dc4c8601ec8c\n"
                + "12346\t00000000000000ac\ta%25%09%C3%A9z\t-\n")
    }

    @Test("a history line has all nine fields")
    func historyLine() {
        var text = ByteWriter()
        HistoryLog.append(
            HistoryLog.Event(
                process: 3, kind: .cas, key: "k\"1", value: "new", expected: nil, output: nil,
                isOK: false, call: 10, returned: 20), to: &text)
        HistoryLog.append(
            HistoryLog.Event(
                process: 4, kind: .get, key: "k", value: nil, expected: nil, output: [0x0A, 0xFF],
                isOK: true, call: 11, returned: nil), to: &text)
        let lines = String(decoding: text.take().array, as: UTF8.self)
        #expect(
            lines == """
                {"process":3,"op":"cas","key":"k\\"1","value":"new","expected":null,"output":null,\
                "ok":false,"call":10,"return":20}
                {"process":4,"op":"get","key":"k","value":null,"expected":null,\
                "output":"\\u000a\\u00ff","ok":null,"call":11,"return":null}

                """)
    }

    @Test("chunks of many threads all arrive")
    func writerKeepsAll() async throws {
        let directory = try TemporaryDirectory()
        let writer = try ChunkWriter(path: directory.path + "/file")
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask { for _ in 0..<1000 { writer.append("0123456789\n") } }
            }
        }
        try writer.finish()
        #expect(try directory.text("file").utf8.count == 8 * 1000 * 11)
    }

    @Test("input lines become records; equal keys share a number")
    func input() throws {
        let input = try InputFile(contents: "a\t1\nb\nc\td\te\n\na\t\nlast\tx", name: "test")
        #expect(input.records.map(\.key) == ["a", "b", "c", "a", "last"])
        #expect(input.records.map(\.value) == ["1", "", "d\te", "", "x"])
        #expect(input.records.map(\.keyNumber) == [0, 1, 2, 0, 3])
        #expect(input.keyCount == 4)
    }

    @Test("input without a line, with an empty or an overlong key is refused, by line number")
    func badInput() {
        #expect(throws: BenchFileError.self) { try InputFile(contents: "\n\n", name: "test") }
        #expect(throws: BenchFileError.self) { try InputFile(contents: "\tv\n", name: "test") }
        let long = Bytes("a\t1\n" + String(repeating: "k", count: 4097) + "\tv\n")
        do throws(BenchFileError) {
            _ = try InputFile(contents: long, name: "test")
            Issue.record("an overlong key was taken")
        } catch {
            #expect(error.description.contains("line 2 of test"))
        }
    }
}
