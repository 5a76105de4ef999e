// COUNT posts to URL, IN_FLIGHT at a time: encode JSON, POST, decode JSON.
// usage: gohttp URL COUNT IN_FLIGHT TEXT
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type request struct {
	Model     string    `json:"model"`
	I         int       `json:"i"`
	MaxTokens int       `json:"max_tokens"`
	Messages  []message `json:"messages"`
}

type answer struct {
	Choices []struct {
		Message message `json:"message"`
	} `json:"choices"`
	Usage struct {
		TotalTokens int `json:"total_tokens"`
	} `json:"usage"`
}

func main() {
	url, text := os.Args[1], os.Args[4]
	count, _ := strconv.Atoi(os.Args[2])
	inFlight, _ := strconv.Atoi(os.Args[3])
	client := &http.Client{Transport: &http.Transport{
		MaxIdleConns: inFlight, MaxIdleConnsPerHost: inFlight, MaxConnsPerHost: inFlight,
	}}
	var done, failed int64
	var wg sync.WaitGroup
	slots := make(chan struct{}, inFlight)
	call := func(i int) bool {
		body, _ := json.Marshal(request{"demo", i, 64, []message{{"user", text}}})
		res, err := client.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			return false
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		var a answer
		return err == nil && res.StatusCode == 200 && json.Unmarshal(data, &a) == nil && a.Usage.TotalTokens == 28
	}
	for i := 0; i < count; i++ {
		slots <- struct{}{}
		wg.Add(1)
		go func(i int) {
			if call(i) {
				atomic.AddInt64(&done, 1)
			} else {
				atomic.AddInt64(&failed, 1)
			}
			<-slots
			wg.Done()
		}(i)
	}
	wg.Wait()
	fmt.Printf("%d done, %d failed\n", done, failed)
	if failed > 0 || int(done) != count {
		os.Exit(1)
	}
}
