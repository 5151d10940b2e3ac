// Makes, checks, changes and lists databases with bbolt itself, for the test beside it.
//
//	main make|check|change SEED FILE
//
// The listing goes to FILE.list: a line "hex/hex=hex" for each value, in order.
package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"strconv"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func randomBytes(random *rand.Rand, limits ...int) []byte {
	bytes := make([]byte, 1+random.Intn(limits[random.Intn(len(limits))]))
	random.Read(bytes)
	return bytes
}

func key(random *rand.Rand) []byte { return randomBytes(random, 3, 20, 200, 1500) }

// One transaction of puts and deletions in one bucket, which may lie within another.
func change(tx *bolt.Tx, random *rand.Rand) error {
	bucket, err := tx.CreateBucketIfNotExists([]byte(fmt.Sprintf("bucket %d", random.Intn(5))))
	must(err)
	if random.Intn(3) == 0 {
		bucket, err = bucket.CreateBucketIfNotExists([]byte("a bucket in a bucket"))
		must(err)
	}
	for steps := random.Intn(200); steps > 0; steps-- {
		if random.Intn(4) > 0 {
			err := bucket.Put(key(random), randomBytes(random, 1, 60, 5000, 40000))
			if !errors.Is(err, berrors.ErrIncompatibleValue) {
				must(err)
			}
		} else if found, value := bucket.Cursor().Seek(key(random)); value != nil {
			must(bucket.Delete(append([]byte{}, found...)))
		}
	}
	return nil
}

func check(db *bolt.DB) {
	must(db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			must(err)
		}
		return nil
	}))
}

func list(out *bufio.Writer, bucket *bolt.Bucket, path string) error {
	return bucket.ForEach(func(key, value []byte) error {
		name := path + hex.EncodeToString(key)
		if value == nil {
			return list(out, bucket.Bucket(key), name+"/")
		}
		_, err := fmt.Fprintf(out, "%s=%s\n", name, hex.EncodeToString(value))
		return err
	})
}

func main() {
	what, path := os.Args[1], os.Args[3]
	seed, err := strconv.ParseInt(os.Args[2], 10, 64)
	must(err)
	random := rand.New(rand.NewSource(seed))
	options := &bolt.Options{NoFreelistSync: random.Intn(4) == 0}
	if what == "make" {
		options.PageSize = 1024 << random.Intn(7)
	}
	db, err := bolt.Open(path, 0o600, options)
	must(err)
	check(db)
	for rounds := map[string]int{"make": 12, "change": 6}[what]; rounds > 0; rounds-- {
		must(db.Update(func(tx *bolt.Tx) error { return change(tx, random) }))
	}
	check(db)
	file, err := os.Create(path + ".list")
	must(err)
	out := bufio.NewWriter(file)
	must(db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, bucket *bolt.Bucket) error {
			return list(out, bucket, hex.EncodeToString(name)+"/")
		})
	}))
	must(out.Flush())
	must(file.Close())
	must(db.Close())
}
