// The history: what each client asked and was told, for independent linearizability checkers.
//
//   {"process":3,"op":"put","key":"…","value":"…","expected":null,"output":null,"ok":true,
//    "call":81234567890123,"return":81234568890123}                       one object per line
//
//   op         get, put, cas or delete
//   value      what put and cas write
//   expected   cas: the value that must be there; null: the key must be absent
//   output     get: the value, null if absent
//   ok         false: the compare-and-set found something else and wrote nothing
//   return     null: the outcome is unknown, the operation may take effect at any time after `call`
//
// Times are CLOCK_MONOTONIC in ns. An operation that certainly had no effect (refused before it was
// proposed) is left out. A process never has two operations at once: after an unknown outcome its
// client goes on under a new number.

import UkehiBase

/// Makes lines on a client's lane and hands them to the writer in chunks. One lane's alone.
struct HistoryLog: ~Copyable {
    /// One operation that has ended, or never will.
    struct Event {
        var process: Int
        var kind: OperationKind
        var key: Bytes
        var value: Bytes?
        var expected: Bytes?
        var output: Bytes?
        var isOK: Bool
        var call: UInt64
        /// Nil: unknown.
        var returned: UInt64?
    }

    private var text = ByteWriter(chunkCapacity: 256 << 10)
    private let writer: ChunkWriter

    init(writer: ChunkWriter) { self.writer = writer }

    mutating func note(_ event: Event) {
        HistoryLog.append(event, to: &text)
        if text.count > 64 << 10 { writer.append(text.take()) }
    }

    /// Hands over what is there.
    mutating func flush() { writer.append(text.take()) }

    /// One line.
    static func append(_ event: Event, to text: inout ByteWriter) {
        text.append(text: "{\"process\":")
        text.appendDecimal(UInt64(event.process))
        text.append(text: ",\"op\":\"")
        switch event.kind {
        case .get: text.append(text: "get")
        case .put: text.append(text: "put")
        case .cas, .modify: text.append(text: "cas")
        case .delete: text.append(text: "delete")
        }
        text.append(text: "\",\"key\":")
        event.key.withUnsafeBytes { text.appendQuoted($0) }
        text.append(text: ",\"value\":")
        append(event.value, to: &text)
        text.append(text: ",\"expected\":")
        append(event.expected, to: &text)
        text.append(text: ",\"output\":")
        append(event.output, to: &text)
        text.append(text: ",\"ok\":")
        if event.returned == nil {
            text.append(text: "null")
        } else if event.isOK {
            text.append(text: "true")
        } else {
            text.append(text: "false")
        }
        text.append(text: ",\"call\":")
        text.appendDecimal(event.call)
        text.append(text: ",\"return\":")
        if let returned = event.returned {
            text.appendDecimal(returned)
        } else {
            text.append(text: "null")
        }
        text.append(text: "}\n")
    }

    private static func append(_ bytes: Bytes?, to text: inout ByteWriter) {
        if let bytes {
            bytes.withUnsafeBytes { text.appendQuoted($0) }
        } else {
            text.append(text: "null")
        }
    }
}
